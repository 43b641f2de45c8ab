"""What is wrong with a variable's text, in words for the person who wrote it. Pure: nothing is looked up.

Each function gives the value back as the server uses it and raises `ValueError`. No message quotes a value: it may be
a secret, or a URL with a password in it.
"""

import re
import shlex
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1", "[::1]", ".localhost", "testserver"})
_DATABASES = frozenset({"postgres", "postgresql", "pgsql", "sqlite"})
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_GITHUB_HOST = re.compile(r"[a-z0-9][a-z0-9.-]*")


def absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        raise ValueError("begins with a home folder nobody knows here; write the whole path") from None


def command(value: str) -> str:
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise ValueError(f"{error}: it is split as a shell would, so each quote needs its partner") from None
    if not words or not words[0]:
        raise ValueError("names no program; leave it out for `claude`")
    return value


def host_names(value: str) -> str:
    names = [name.strip() for name in value.split(",") if name.strip()]
    if wrong := [name for name in names if name != "*" and not _HOST_NAME.fullmatch(name)]:
        raise ValueError(f"must be host names separated by commas, or *; {wrong[0]!r} is neither")
    return ",".join(names)


def named_hosts(value: str) -> str:
    """Like `host_names`, in small letters, without a word for all; `none`: no host."""
    names = host_names(value.lower()).split(",")
    if "*" in names:
        raise ValueError("must name each host; contents of repositories are not fetched from just anywhere")
    return ",".join(name for name in names if name != "none")


def github_host(value: str) -> str:
    if not _GITHUB_HOST.fullmatch(value):
        raise ValueError(
            "must be a host name alone, in small letters, without https:// before or a path after it"
        )
    return value


def folders(value: str) -> str:
    if not all(Path(item).is_absolute() for item in value.split(":") if item):
        raise ValueError("must be whole paths that begin with /, separated by colons")
    return value


def listening_address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be an address and a port, like 127.0.0.1:0 (0: any free port)")
    return value


def database_url(value: str) -> str:
    if not value:
        return value
    parts = _split(
        value,
        "the port is a number, and special characters of a password are written as %40 (@), %2F (/) and so on",
    )
    if re.search(r"\s", value):
        raise ValueError("has white space in it; where it belongs to the password, write %20")
    if parts.scheme not in _DATABASES:
        raise ValueError(
            "must begin with postgres://, or with sqlite:/// for a file; no other database is supported"
        )
    if parts.fragment:
        raise ValueError("has a # in it; where it belongs to the password, write %23")
    if not parts.path.strip("/") and "service" not in parse_qs(parts.query):
        raise ValueError(
            "names no database at its end (a ? or / of the password must be written as %3F, %2F)"
        )
    return value


def database_words(url: str, sqlite_file: Path) -> str:
    """Which database an accepted URL means, for people; never its password."""
    parts = urlsplit(url)
    if not url or parts.scheme == "sqlite":
        return f"SQLite {unquote(parts.path[1:]) if url else sqlite_file}"
    name, user, options = unquote(parts.path.strip("/")), unquote(parts.username or ""), parse_qs(parts.query)
    if not name:
        return f"Postgres of the service {options['service'][0]}"
    host = unquote(parts.hostname or options.get("host", ["this machine"])[0])
    words = f"Postgres {name} on {host}" + (f", port {parts.port}" if parts.port else "")
    return words + (f", as {user}" if user else "")


def web_address(value: str) -> str:
    """An http or https address that paths can be appended to, without a slash at its end; empty stays empty."""
    if not value:
        return value
    parts = _split(value, "it must be an address like https://example.org")
    if parts.username or parts.password:
        raise ValueError("must not carry a user name or password; credentials have variables of their own")
    if parts.scheme not in {"http", "https"} or not parts.hostname or re.search(r"\s", value):
        raise ValueError("must be https:// and a host name")
    if "?" in value or "#" in value:
        raise ValueError("must end with its host or path; ? and # cannot be part of it")
    return value.rstrip("/")


def safe_address(value: str) -> str:
    """A `web_address` that credentials may be sent to."""
    address = web_address(value)
    parts = urlsplit(address)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS:
        raise ValueError("must be https://… (plain http is accepted on a loopback address only)")
    return address


def _split(value: str, advice: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        _checked = parts.port
    except ValueError:  # its message may hold a part of a password
        raise ValueError(f"is not a URL that can be read; {advice}") from None
    return parts
