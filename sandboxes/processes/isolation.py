"""The bubblewrap profile for local commands.

Inside: the system's programs read-only, the agent command's own installation, the workspace and a private
HOME writable, an empty /tmp, its own pid namespace that dies with the parent. Not inside: the data folder,
other orders, the database, the server's environment and its processes. The network is shared, since the
agent must reach the model.
"""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from sandboxes.errors import SandboxUnavailable

_SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
_SYSTEM_FILES = (
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/pki",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
    "/etc/terminfo",
)
AGENT_UID = 1000
_OOM_SCORE = 800  # where memory runs out, agents go before the server and its database
_LARGEST_FILE_BYTES = 32 * 1024**3


@dataclass(frozen=True)
class IsolationSettings:
    """`mode` as configured; `read_paths` are more folders the agent may read; `search_path` is its PATH.

    `processes` and `memory_bytes` bound one sandbox's processes and each of its processes' data; 0: no bound.
    """

    mode: Literal["bubblewrap", "none"]
    read_paths: tuple[Path, ...] = ()
    search_path: str = "/usr/local/bin:/usr/bin:/bin"
    processes: int = 4096
    memory_bytes: int = 0


@lru_cache(maxsize=8)
def find_bubblewrap(search_path: str) -> str:
    """Absolute path of `bwrap`. Raises `SandboxUnavailable` where it is missing."""
    found = shutil.which("bwrap", path=search_path)
    if found is None:
        raise SandboxUnavailable(
            "bubblewrap (bwrap) is not installed, so agents cannot be isolated.",
            advice="Install it (`apt-get install bubblewrap`), or accept the risk with "
            "WORKORDERS_AGENT_ISOLATION=none.",
        )
    return found


def isolated_argv(
    argv: Sequence[str],
    *,
    settings: IsolationSettings,
    workspace: Path,
    home: Path,
    writable: Iterable[Path] = (),
    readable: Iterable[Path] = (),
    hidden: Iterable[Path] = (),
    files: Mapping[Path, Path] | None = None,
) -> list[str]:
    """`argv` wrapped in bubblewrap; start it with exactly the environment the command shall see.

    `hidden` folders are masked wherever a readable folder would show them; `writable` and `readable` paths
    come after, so that an order's own folders below a hidden one stay visible. `files` maps a path inside to
    the file shown there.
    """
    wrapped = [find_bubblewrap(settings.search_path), "--unshare-user", "--unshare-pid", "--unshare-ipc"]
    wrapped += ["--unshare-uts", "--unshare-cgroup-try", "--die-with-parent", "--cap-drop", "ALL"]
    wrapped += ["--uid", str(AGENT_UID), "--gid", str(AGENT_UID), "--hostname", "sandbox"]
    for name in _SYSTEM_FOLDERS:
        path = Path(name)
        if path.is_symlink():
            wrapped += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            wrapped += ["--ro-bind", name, name]
    for name in _SYSTEM_FILES:
        wrapped += ["--ro-bind-try", name, name]
    wrapped += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run"]  # noqa: S108  # nosec B108  # a private one
    for path in _outermost((*settings.read_paths, *readable)):
        wrapped += ["--ro-bind-try", str(path), str(path)]
    masked = tuple(dict.fromkeys(name for path in hidden for name in (path, path.resolve())))
    for path in masked:
        wrapped += ["--tmpfs", str(path)]
    for path in _below(masked, (*settings.read_paths, *readable)):
        wrapped += ["--ro-bind-try", str(path), str(path)]
    for path in (workspace, home, *writable):
        wrapped += ["--bind", str(path), str(path)]
    for inside, shown in (files or {}).items():
        wrapped += ["--ro-bind", str(shown), str(inside)]
    return [*wrapped, "--chdir", str(workspace), "--", *argv]


def bounded_argv(argv: Sequence[str], settings: IsolationSettings) -> list[str]:
    """`argv` with limits on what it may use up, for a command that is then isolated.

    util-linux's programs set them inside, where processes are counted for this sandbox alone; the kernel counts none
    for a server that runs as root. Where the programs are missing there are no limits.
    """
    bounded = list(argv)
    if prlimit := shutil.which("prlimit", path=settings.search_path):
        limits = ["--core=0", f"--fsize={_LARGEST_FILE_BYTES}"]
        limits += [f"--nproc={settings.processes}"] if settings.processes else []
        limits += [f"--data={settings.memory_bytes}"] if settings.memory_bytes else []
        bounded = [prlimit, *limits, "--", *bounded]
    if choom := shutil.which("choom", path=settings.search_path):
        bounded = [choom, "-n", str(_OOM_SCORE), "--", *bounded]
    return bounded


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """The paths without those below another one, so that each is mounted once."""
    kept: list[Path] = []
    for path in sorted(set(paths), key=lambda item: len(item.parts)):
        if not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return kept


def _below(folders: Sequence[Path], paths: Iterable[Path]) -> list[Path]:
    """The paths truly below one of the folders; one that is a folder, or holds it, must not show it again."""
    return [path for path in dict.fromkeys(paths) if any(folder in path.parents for folder in folders)]


def program_folders(argv: Sequence[str], search_path: str) -> tuple[Path, ...]:
    """The folders a local command line needs to read: each hop of its program's installation, script files.

    An installation is the folder above `bin`; where that is a home, or a folder right below the root, only the
    file itself.
    A missing program is not reported here but when it is started.
    """
    found: list[Path] = []
    program = shutil.which(argv[0], path=search_path)
    hops = [Path(program)] if program else []
    while hops and hops[-1].is_symlink() and len(hops) < 16:
        target = hops[-1].parent / hops[-1].readlink()
        hops.append(Path(os.path.normpath(target)))
    for hop in hops:
        found += _installation(hop)
    found += [Path(item) for item in argv[1:] if item.startswith("/") and Path(item).is_file()]
    return tuple(dict.fromkeys(path for path in found if not _is_system(path)))


@lru_cache(maxsize=64)
def _installation(program: Path) -> tuple[Path, ...]:
    folder = program.parent
    prefix = folder.parent if folder.name in {"bin", "shims"} else folder
    if (config := prefix / "pyvenv.cfg").is_file():  # a virtual environment needs its base interpreter
        for line in config.read_text().splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "home":
                return (prefix, *_installation(Path(value.strip()) / program.name))
    return (program if _holds_more(prefix) or _holds_more(folder) else prefix,)


def _holds_more(folder: Path) -> bool:
    """Whether a folder is a home or so high up that much beside a program may lie in it."""
    above = (folder, *folder.parents)
    homes = {Path.home(), Path("/root"), *(place for place in above if place.parent == Path("/home"))}
    return len(folder.parts) <= 2 or folder in homes or folder in {home / ".local" for home in homes}


@lru_cache(maxsize=64)
def _is_system(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in _SYSTEM_FOLDERS)
