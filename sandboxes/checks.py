"""Checks of what sandboxes need on this machine: git, isolation, the agent's program, the data folder.

Each asks one question, within its own time-out, and answers with findings; none raises for what it finds.
Knows neither settings nor work orders: values come in, findings go out.
"""

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sandboxes.errors import ExpectedError, ProgramMissing
from sandboxes.files.disk import free_bytes, in_units
from sandboxes.findings import Finding, failed, ok, warning
from sandboxes.processes import run as process
from sandboxes.processes.isolation import IsolationSettings, isolated_argv, program_folders
from sandboxes.processes.run import ExitReason, ProcessLimits, ProcessResult
from sandboxes.trusted_git.git import find_git

OLDEST_GIT = (2, 38)
PROBE_SECONDS = 10.0
AGENT_SECONDS = 20.0
LEAST_FREE_BYTES = 500 * 1024 * 1024
COMFORTABLE_FREE_BYTES = 5 * 1024 * 1024 * 1024
_CANNOT_START = frozenset({126, 127})  # what a shell and `env` say
_GIT_HINT = "Install git 2.38 or newer, for instance with `apt-get install git`, on every worker machine."
# Kernel switches that forbid an ordinary user what bubblewrap needs, and the value that means "forbidden".
_NAMESPACE_SWITCHES = (
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ("user.max_user_namespaces", "0", "10000"),
)


def check_git(search_path: str) -> Finding:
    try:
        program = find_git(search_path)
    except ProgramMissing as error:
        return failed("git", str(error), _GIT_HINT)
    result = _probe([program, "--version"], search_path, Path("/"))
    said = _first_line(result)
    found = re.search(r"(\d+)\.(\d+)", said)
    if not result.ok or found is None:
        return failed("git", f"{program} does not tell its version: {said}", _GIT_HINT)
    if (int(found[1]), int(found[2])) < OLDEST_GIT:
        return failed("git", f"{said} is too old.", _GIT_HINT)
    return ok("git", f"{said} at {program}")


def check_submodules_and_lfs(
    *, github_host: str, submodules_max_mb: int, lfs_max_mb: int, lfs_hosts: Sequence[str]
) -> Finding:
    """What this server does with either, in words; there is nothing to try."""
    modules = (
        f"submodules on {github_host}, up to {submodules_max_mb} MB, private ones only where a repository lists them"
        if submodules_max_mb
        else "no submodule (WORKORDERS_SUBMODULES_MAX_MB=0)"
    )
    others = f"; contents also from {', '.join(lfs_hosts)}" if lfs_hosts else "; contents from no other host"
    lfs = (
        f"Git LFS of the repository's own endpoint, up to {lfs_max_mb} MB{others}"
        if lfs_max_mb
        else "no Git LFS (WORKORDERS_LFS_MAX_MB=0)"
    )
    return ok("submodules and LFS", f"fetched before an agent starts: {modules}; {lfs}")


def check_isolation(settings: IsolationSettings) -> Finding:
    """Whether a program can really be started in the profile agents run in."""
    if settings.mode == "none":
        return warning(
            "isolation",
            "WORKORDERS_AGENT_ISOLATION=none: agents can read and change what the server's account can.",
            "Install bubblewrap (`apt-get install bubblewrap`) and set WORKORDERS_AGENT_ISOLATION=bubblewrap.",
        )
    try:
        result = _isolated(["true"], settings, PROBE_SECONDS)
    except ExpectedError as error:
        return failed("isolation", str(error), error.advice)
    if result.ok:
        return ok("isolation", "bubblewrap runs a program in the agents' profile")
    return failed("isolation", f"bubblewrap does not work: {_first_line(result)}", _namespace_hint())


def check_agent_program(argv: Sequence[str], search_path: str) -> Finding:
    """Whether the agent's command starts at all, with nothing of the server's environment."""
    program, missing = _find_agent(argv, search_path)
    if missing:
        return failed("agent command", missing, _agent_hint(argv))
    with tempfile.TemporaryDirectory(prefix="workorders-doctor-") as home:
        try:
            result = _probe([program, *argv[1:], "--version"], search_path, Path(home), AGENT_SECONDS)
        except ExpectedError as error:
            return failed("agent command", str(error), _agent_hint(argv))
    if result.reason is not ExitReason.EXITED:
        message = f"`{program} --version` did not end within {AGENT_SECONDS:.0f} s."
        return failed("agent command", message, _agent_hint(argv))
    if _started(result):
        return ok("agent command", f"{_first_line(result) if result.ok else 'starts'} at {program}")
    message = f"`{program} --version` failed ({result.exit_code}): {_first_line(result)}"
    if _is_claude(argv) or result.exit_code in _CANNOT_START:
        return failed("agent command", message, _agent_hint(argv))
    hint = "An agent need not know --version; if its steps fail too, correct WORKORDERS_AGENT_COMMAND."
    return warning("agent command", message, hint)


def check_agent_in_isolation(argv: Sequence[str], settings: IsolationSettings) -> Finding:
    """Whether the agent's installation can be read and started from inside the profile."""
    name = "agent in isolation"
    if settings.mode == "none":
        return ok(name, "not asked for")
    _program, missing = _find_agent(argv, settings.search_path)
    if missing:
        return warning(name, f"Not tried: {missing}", "Put the agent command right first.")
    try:
        result = _isolated([*argv, "--version"], settings, AGENT_SECONDS)
    except ExpectedError as error:
        return failed(name, str(error), error.advice)
    if _started(result):
        return ok(name, "starts")
    if not _is_claude(argv) and _fails_alike_outside(argv, settings, result):
        return ok(name, "starts, and fails on --version inside as outside")
    reason = _first_line(result) or f"exit code {result.exit_code}, {result.reason}"
    return failed(
        name,
        f"{argv[0]} does not start inside bubblewrap: {reason}",
        "If files of its installation are outside its own folder, name them in WORKORDERS_AGENT_READ_PATHS "
        "(colon-separated); see also the lines above.",
    )


def check_data_folder(folder: Path, *, floor_bytes: int = LEAST_FREE_BYTES) -> list[Finding]:
    """Write access, permissions and free space; the folder is made where it is missing.

    Below `floor_bytes` no agent is started.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"doctor")
    except OSError as error:
        return [
            failed(
                "data folder",
                f"{folder} cannot be written: {error.strerror}.",
                "Give it to the server's account (`chown`), or choose another with WORKORDERS_DATA_DIR.",
            )
        ]
    return [
        ok("data folder", f"{folder} can be written"),
        _permissions(folder),
        _free_space(folder, floor_bytes),
    ]


def _permissions(folder: Path) -> Finding:
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077 == 0:
        return ok("data folder permissions", f"{mode:04o}: only the server's account")
    return warning(
        "data folder permissions",
        f"{mode:04o}: other accounts of this machine may look in.",
        f"Run `chmod 700 {folder}`: transcripts, logs and repositories are in there.",
    )


def _free_space(folder: Path, floor_bytes: int) -> Finding:
    free = free_bytes(folder)
    words = f"{in_units(free)} free"
    hint = (
        "Every running order needs a checkout of its repository: free some space (`manage.py prune` says what is "
        "old) or move WORKORDERS_DATA_DIR."
    )
    if free < floor_bytes:
        least = in_units(floor_bytes)
        return failed(
            "disk space", f"{words} in {folder}; no agent is started below {least}, orders wait.", hint
        )
    if free < COMFORTABLE_FREE_BYTES:
        return warning("disk space", f"{words} in {folder}.", hint)
    return ok("disk space", f"{words}; orders wait below {in_units(floor_bytes)}")


def _find_agent(argv: Sequence[str], search_path: str) -> tuple[str, str]:
    """The program's path, and in words which part of the command is missing: one of the two is empty."""
    program = shutil.which(argv[0], path=search_path)
    if program is None:
        return "", f"{argv[0]} is not on the server's PATH."
    absent = next((item for item in argv[1:] if item.startswith("/") and not Path(item).exists()), None)
    return ("", f"{absent} does not exist.") if absent else (program, "")


def _fails_alike_outside(argv: Sequence[str], settings: IsolationSettings, inside: ProcessResult) -> bool:
    if inside.exit_code in _CANNOT_START or inside.stderr.startswith(b"bwrap:"):
        return False
    with tempfile.TemporaryDirectory(prefix="workorders-doctor-") as home:
        outside = _probe([*argv, "--version"], settings.search_path, Path(home), AGENT_SECONDS)
    return (outside.exit_code, outside.reason) == (inside.exit_code, ExitReason.EXITED)


def _started(result: ProcessResult) -> bool:
    """An agent that does not know `--version` but answers in stream-json has started all the same."""
    return result.ok or result.stdout.lstrip().startswith(b'{"type":')


def _isolated(argv: Sequence[str], settings: IsolationSettings, seconds: float) -> ProcessResult:
    """Run a command in the profile with an empty workspace and HOME. Raises `ExpectedError`."""
    with tempfile.TemporaryDirectory(prefix="workorders-doctor-") as place:
        workspace, home = Path(place) / "workspace", Path(place) / "home"
        workspace.mkdir()
        home.mkdir()
        wrapped = isolated_argv(
            argv,
            settings=settings,
            workspace=workspace,
            home=home,
            readable=program_folders(argv, settings.search_path),
        )
        return _probe(wrapped, settings.search_path, home, seconds)


def _probe(
    argv: Sequence[str], search_path: str, home: Path, seconds: float = PROBE_SECONDS
) -> ProcessResult:
    return process.run(
        argv,
        env={"PATH": search_path, "HOME": str(home), "LANG": "C.UTF-8", "DISABLE_AUTOUPDATER": "1"},
        cwd=home,
        limits=ProcessLimits(total_seconds=seconds, output_bytes=64 * 1024),
    )


def _first_line(result: ProcessResult) -> str:
    lines = (result.stdout.decode("utf-8", "replace") + "\n" + result.stderr_text).splitlines()
    words = next((line.strip() for line in lines if line.strip()), "")
    return "".join(character if character.isprintable() else " " for character in words)[:300]


def _is_claude(argv: Sequence[str]) -> bool:
    return Path(argv[0]).name == "claude"


def _agent_hint(argv: Sequence[str]) -> str:
    if _is_claude(argv):
        return (
            "Install Claude Code with `npm install -g @anthropic-ai/claude-code` on every worker machine; if npm "
            "refuses its install script, allow it with `--allow-scripts=@anthropic-ai/claude-code`."
        )
    return "Install it on every worker machine, or correct WORKORDERS_AGENT_COMMAND."


def _namespace_hint() -> str:
    forbidding = [
        f"`sysctl -w {name}={allowed}`"
        for name, forbidden, allowed in _NAMESPACE_SWITCHES
        if _kernel_switch(name) == forbidden
    ]
    if forbidding and os.geteuid() != 0:
        return f"This kernel forbids user namespaces to ordinary accounts; allow them with {', '.join(forbidding)}."
    return (
        "User namespaces may be forbidden here, as in many containers: start the container with a seccomp profile "
        "that allows them, use another machine, or accept the risk with WORKORDERS_AGENT_ISOLATION=none."
    )


def _kernel_switch(name: str) -> str:
    try:
        return Path("/proc/sys", *name.split(".")).read_text().strip()
    except OSError:
        return ""
