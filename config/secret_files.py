"""Secrets from files: `<NAME>_FILE` names a file that holds what `<NAME>` would; for systemd, Docker and the like.

Pure but for reading the named files. Every problem is a sentence for the person who starts the server.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

SUFFIX = "_FILE"
NAMES = (
    "DATABASE_URL",
    "WORKORDERS_SECRET_KEY",
    "WORKORDERS_WEBHOOK_SECRETS",
    "E2B_API_KEY",
    "GH_TOKEN",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_CUSTOM_HEADERS",
    "CLAUDE_CODE_OAUTH_TOKEN",
)
_MAX_BYTES = 64 * 1024


class SecretFileInvalid(Exception):
    """A file that should hold a secret cannot be used; the message names the variable and what to do."""


def read_secret_files(variables: Mapping[str, str]) -> tuple[dict[str, str], list[SecretFileInvalid]]:
    """The secrets by the names of their variables, and what is wrong with the other files."""
    found: dict[str, str] = {}
    problems: list[SecretFileInvalid] = []
    for name in NAMES:
        if path := variables.get(name + SUFFIX):
            try:
                if variables.get(name):
                    raise SecretFileInvalid(f"{name} is set as well; keep one of the two")
                found[name] = _read(Path(path))
            except SecretFileInvalid as error:
                problems.append(SecretFileInvalid(f"{name}{SUFFIX}: {error}"))
    return found, problems


def _read(path: Path) -> str:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hang the start
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a usable path"
        raise SecretFileInvalid(f"cannot read {path}: {reason}") from error
    try:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise SecretFileInvalid(f"{path} is not a file")
        if state.st_mode & 0o007:
            mode = stat.S_IMODE(state.st_mode)
            raise SecretFileInvalid(f"every account can read {path} ({mode:04o}); run `chmod 600 {path}`")
        content = os.read(handle, _MAX_BYTES + 1)
    finally:
        os.close(handle)
    if len(content) > _MAX_BYTES:
        raise SecretFileInvalid(f"{path} is larger than {_MAX_BYTES // 1024} KiB, which no secret is")
    try:
        text = content.decode().strip("\r\n")
    except UnicodeDecodeError as error:
        raise SecretFileInvalid(f"{path} is not text in UTF-8") from error
    if not text.strip() or "\x00" in text:
        raise SecretFileInvalid(f"{path} holds no secret")
    return text
