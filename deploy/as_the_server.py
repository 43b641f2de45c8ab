"""Starts `manage.py` with the variables of /etc/work-orders.env, as the account the data folder belongs to.

The file is read as systemd reads it (`EnvironmentFile=`), so that a command and the server cannot differ. Nothing of
the caller's environment comes along but what tells of the terminal. Commands that write into the code's folder run
as its owner. Alone on purpose: it imports nothing of the server, which may not even start.
"""

import os
import pwd
import re
import sys
from pathlib import Path

ENVIRONMENT_FILE = Path("/etc/work-orders.env")
CODE = Path(__file__).resolve().parent.parent
PYTHON = CODE / ".venv" / "bin" / "python"
OF_THE_CODE = {"collectstatic", "findstatic"}
OF_THE_TERMINAL = ("TERM", "COLUMNS", "LINES", "LANG", "LC_ALL", "LC_CTYPE", "NO_COLOR")
_QUOTES = {"'": "in single quotes", '"': "in double quotes"}
_CLOSES = {"in single quotes": "'", "in double quotes": '"'}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def parsed(text: str) -> dict[str, str]:
    """The variables of an environment file, by the states of systemd's own reader (src/basic/env-file.c)."""
    found: dict[str, str] = {}
    state, key, value, kept = "before key", "", "", 0  # `kept`: up to there, white space at the end is meant
    for character in f"{text}\n":
        ends = character == "\n"
        if state in {"before key", "comment"}:
            if ends:
                state = "before key"
            elif state == "before key" and not character.isspace():
                state, key, value, kept = ("comment" if character in "#;" else "key"), character, "", 0
        elif state == "key":
            state = "before key" if ends else "before value" if character == "=" else state
            key += character if state == "key" else ""
        elif state in {"before value", "value"} and ends:
            found[key.strip()] = value[:kept] + value[kept:].rstrip()
            state = "before key"
        elif state == "before value" and character in _QUOTES:
            state = _QUOTES[character]
        elif state in {"before value", "value"} and character == "\\":
            state = "escape"
        elif state in {"before value", "value"}:
            if state == "value" or not character.isspace():
                state, value = "value", value + character
        elif state == "escape":
            state, value = "value", value + ("" if ends else character)
            kept = len(value)
        elif state == "escape in quotes":
            state = "in double quotes"
            value += character if character in '"\\`$' else "" if ends else "\\" + character
        elif character == _CLOSES[state]:
            state, kept = "before value", len(value)
        elif state == "in double quotes" and character == "\\":
            state = "escape in quotes"
        else:
            value += character
    return {name: value for name, value in found.items() if _NAME.fullmatch(name)}


def main(arguments: list[str]) -> int:
    """The exit code where the command could not be started; else this process becomes the command."""
    try:
        given = parsed(ENVIRONMENT_FILE.read_text(encoding="utf-8"))
    except PermissionError:
        return fail(
            f"{ENVIRONMENT_FILE} is not for {name_of(os.geteuid())} to read. Run this with sudo, or as root."
        )
    except (OSError, UnicodeDecodeError) as error:
        return fail(
            f"{ENVIRONMENT_FILE} cannot be read: {error}. Copy {CODE}/deploy/work-orders.env there, and fill it in."
        )
    if not given.get("WORKORDERS_DATA_DIR", "").startswith("/"):
        return fail(
            f"{ENVIRONMENT_FILE} has no WORKORDERS_DATA_DIR, a whole path such as /var/lib/work-orders. Add it."
        )
    folder = CODE if arguments[:1] and arguments[0] in OF_THE_CODE else Path(given["WORKORDERS_DATA_DIR"])
    try:
        account = folder.stat().st_uid
    except OSError as error:
        return fail(
            f"The data folder {folder} cannot be looked at: {error.strerror}. "
            f"Make it, as root: install -d -o workorders -g workorders -m 700 {folder}"
        )
    try:
        home = become(account)
    except (PermissionError, KeyError):
        return fail(f"{folder} belongs to {name_of(account)}. Run this with sudo, or as root.")
    terminal = {name: os.environ[name] for name in OF_THE_TERMINAL if name in os.environ}
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **terminal, **home, **given}
    os.chdir(CODE)
    try:
        os.execve(PYTHON, [str(PYTHON), str(CODE / "manage.py"), *arguments], environment)
    except OSError as error:
        return fail(
            f"{name_of(account)} cannot start {PYTHON}, which is {PYTHON.resolve()}: {error.strerror}. Make "
            "the environment again, with a Python that every account may read (docs/operations.md, On a server)."
        )


def become(account: int) -> dict[str, str]:
    """Give up being root, for good; what the account's own programs expect of its environment."""
    entry = pwd.getpwuid(account)
    if os.geteuid() != account:
        os.initgroups(entry.pw_name, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(account)
    return {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name, "SHELL": "/bin/sh"}


def name_of(account: int) -> str:
    try:
        return pwd.getpwuid(account).pw_name
    except KeyError:
        return str(account)


def fail(words: str) -> int:
    print(words, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
