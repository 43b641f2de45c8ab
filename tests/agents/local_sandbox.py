"""A sandbox stand-in for the agent executor's tests: a folder of this machine, without isolation."""

from collections.abc import Callable
from pathlib import Path

from sandboxes.base import CommandExecutionResult, Remains, SandboxCommand, SandboxState
from sandboxes.processes.run import ProcessControl, ProcessLimits, run
from sandboxes.sweep.rules import Exported, LeftOut


class LocalSandbox:
    """Runs commands in a folder of this machine, without isolation: just enough of the Protocol."""

    shares_host = True
    left_out: tuple[LeftOut, ...] = ()
    last_export = Exported(False)
    lfs_limit_bytes: int | None = None
    unplaced: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.sandbox_identifier = "local"
        self.workspace = str(folder)
        self.handle = "local"
        self.commands: list[SandboxCommand] = []

    def execute_command(
        self,
        command: SandboxCommand,
        *,
        control: ProcessControl | None = None,
        on_stdout: Callable[[bytes], None] | None = None,
    ) -> CommandExecutionResult:
        self.commands.append(command)
        done = run(
            command.argv,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": self.workspace,
                **command.environment,
                **command.secrets,
            },
            limits=ProcessLimits(command.timeout_seconds, command.silence_seconds, grace_seconds=0.3),
            cwd=Path(self.workspace),
            stdin=command.stdin,
            control=control,
            on_stdout=on_stdout,
            sweep=True,
        )
        return CommandExecutionResult(
            done.exit_code, done.reason, done.stdout, done.stderr, done.truncated, done.duration_seconds
        )

    def setup(self) -> None:
        raise NotImplementedError

    def attach(self, handle: str) -> bool:
        raise NotImplementedError

    def write_file(self, path: str, content: bytes) -> None:
        raise NotImplementedError

    def export_bundle(self, destination: Path, *, limit_bytes: int, leftovers_message: str = "") -> bool:
        raise NotImplementedError

    def export_lfs(self, destination: Path, *, limit_bytes: int) -> bool:
        raise NotImplementedError

    def reclaim(self, handle: str) -> Remains | None:
        raise NotImplementedError

    def mark_taken(self) -> None:
        raise NotImplementedError

    def set_aside(self) -> str:
        raise NotImplementedError

    def holds_session(self, session_id: str) -> bool | None:
        raise NotImplementedError

    def mark_idle(self, head_sha: str) -> None:
        raise NotImplementedError

    def get_current_state(self) -> SandboxState:
        return SandboxState(exists=True)

    def cleanup(self) -> None:
        return
