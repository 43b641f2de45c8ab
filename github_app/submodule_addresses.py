"""The repository a submodule's address names: text of a stranger's becomes a typed reference, or is refused.

Pure. What is fetched is never the address as it is written but one made anew from host, owner and name, so that
nothing else of it (a port, a login, a helper, a path) can reach git.
"""

import re

from github_app.references import ReferenceInvalid, RepositoryReference, parse_repository_reference

MOST_ALLOWED = 100
_RELATIVE = re.compile(r"\.\.?/")
_HTTPS = re.compile(r"https://", re.IGNORECASE)
_FULL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+")


def submodule_reference(
    address: str, *, parent: RepositoryReference, github_host: str
) -> RepositoryReference:
    """The repository on GitHub that the address in `parent`'s `.gitmodules` names. Raises `ReferenceInvalid`.

    Absolute addresses must be https on the server's own GitHub; relative ones stay on the parent's host.
    """
    if _RELATIVE.match(address):
        address = _absolute(address, parent)
    if not _HTTPS.match(address):
        raise ReferenceInvalid(f"its address is not https://{github_host}/owner/name")
    try:
        rest = address[len("https://") :]
        return parse_repository_reference(f"https://{rest}", github_host=github_host, allow_local=False)
    except ReferenceInvalid as error:
        raise ReferenceInvalid(
            f"its address is not one on {github_host}: {_reason(error, github_host)}"
        ) from error


def _reason(error: ReferenceInvalid, github_host: str) -> str:
    words = str(error).partition(";")[0].removesuffix(".")
    if "not with" in words:
        return f"it is on {words.rpartition('not with ')[2]}"
    return words.replace("The repository reference", "it").replace(github_host, "GitHub")


def _absolute(address: str, parent: RepositoryReference) -> str:
    """As git resolves it against the parent's own address, but never beyond its owner: above is another host."""
    if parent.is_local:
        raise ReferenceInvalid("its address is relative, and its parent is a folder of this machine")
    above, rest = [parent.owner, parent.name], address
    while step := _RELATIVE.match(rest):
        rest = rest[step.end() :]
        if step[0] == "../":
            if not above:
                raise ReferenceInvalid("its relative address leaves the host")
            above.pop()
    return f"https://{parent.host}/{'/'.join([*above, rest])}"


def parse_allowed(text: str) -> tuple[str, ...]:
    """The repositories that a setting names, `owner/name` a line, in small letters. Raises `ValueError`.

    Empty lines and `#` comments are left out.
    """
    lines = [line.strip() for line in text.splitlines()]
    names = [line for line in lines if line and not line.startswith("#")]
    if len(names) > MOST_ALLOWED:
        raise ValueError(f"There are more than {MOST_ALLOWED} repositories.")
    for name in names:
        if not _FULL_NAME.fullmatch(name) or name.endswith((".git", "/.", "/..")):
            raise ValueError(f"{name[:80]!r} is not a repository as owner/name.")
    return tuple(dict.fromkeys(name.lower() for name in names))
