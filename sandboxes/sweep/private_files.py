"""What is known by its name alone to be no file for a repository: git folders, and files in which secrets are kept.

Pure; used by the sweep on both sides of the border.
"""

import re
from collections.abc import Iterable

_MADE_BY_GIT = ("HEAD", "config")
# One machine's settings and passwords (dotenv, direnv, netrc, libpq), and stores of private keys that no look at their
# text finds. `.env.example` and its like are made to be committed.
_SECRET_FILE = re.compile(
    r"\.env(?:\.(?!(?:[\w-]+\.)*(?:examples?|samples?|templates?|tmpl|tpl|dist|defaults?|schema)$).+)?|"
    r"\.envrc|\.netrc|_netrc|\.pgpass|\.my\.cnf|\.htpasswd|\.git-credentials|"
    r".+\.(?:p12|pfx|jks|keystore)",
    re.IGNORECASE,
)


def git_folders(paths: Iterable[str]) -> frozenset[str]:
    """Folders that hold what git makes in each of its own, such as a bare repository or a `.git` that was copied."""
    known = set(paths)
    suffix = f"/{_MADE_BY_GIT[0]}"
    found = (path.removesuffix(suffix) for path in known if path.endswith(suffix))
    return frozenset(
        folder for folder in found if all(f"{folder}/{name}" in known for name in _MADE_BY_GIT[1:])
    )


def below(path: str, folders: frozenset[str]) -> str:
    """The first of the folders that a path is in; '' for none."""
    above = path
    while folders and (above := above.rpartition("/")[0]):
        if above in folders:
            return above
    return ""


def is_secret_file(path: str) -> bool:
    """Also what lies in a folder of such a name."""
    return any(_SECRET_FILE.fullmatch(part) for part in path.rsplit("/", 40))
