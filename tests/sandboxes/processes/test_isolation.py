"""The bubblewrap profile: what a command line needs to read, and that what is hidden stays hidden."""

import os
import sys
import venv
from pathlib import Path

import pytest

from sandboxes.errors import SandboxUnavailable
from sandboxes.processes.isolation import IsolationSettings, find_bubblewrap, isolated_argv, program_folders
from sandboxes.processes.run import ProcessLimits, ProcessResult, run
from tests.support import require_program

SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin"


def executable(path: Path, text: str = "#!/bin/sh\necho started\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def isolated(
    argv: list[str],
    tmp_path: Path,
    *,
    read_paths: tuple[Path, ...] = (),
    writable: tuple[Path, ...] = (),
    readable: tuple[Path, ...] = (),
    hidden: tuple[Path, ...] = (),
) -> ProcessResult:
    require_program("bwrap")
    workspace, home = tmp_path / "workspace", tmp_path / "home"
    for folder in (workspace, home):
        folder.mkdir(exist_ok=True)
    wrapped = isolated_argv(
        argv,
        settings=IsolationSettings("bubblewrap", read_paths),
        workspace=workspace,
        home=home,
        writable=writable,
        readable=readable,
        hidden=hidden,
    )
    environment = {"PATH": SEARCH_PATH, "HOME": str(home)}
    return run(wrapped, env=environment, limits=ProcessLimits(total_seconds=20))


class TestProgramFolders:
    def test_a_program_of_the_system_needs_nothing(self) -> None:
        assert program_folders(["sh", "-c", "true"], SEARCH_PATH) == ()

    def test_a_missing_program_needs_nothing(self) -> None:
        assert program_folders(["no-such-program", "--flag"], SEARCH_PATH) == ()

    def test_a_virtual_environment_and_its_base(self, tmp_path: Path) -> None:
        venv.create(tmp_path / "env", symlinks=True)
        found = program_folders([str(tmp_path / "env" / "bin" / "python"), "-m", "x"], SEARCH_PATH)
        base = Path(sys.base_prefix)
        assert tmp_path / "env" in found
        assert base in found or str(base).startswith("/usr")
        assert not {tmp_path, Path.home(), Path("/")} & set(found)

    def test_and_they_suffice_to_start_it(self, tmp_path: Path) -> None:
        venv.create(tmp_path / "env", symlinks=True)
        argv = [str(tmp_path / "env" / "bin" / "python"), "-c", "import json, ssl; print('started')"]
        result = isolated(argv, tmp_path, readable=program_folders(argv, SEARCH_PATH))
        assert result.stdout == b"started\n", result.stderr

    def test_a_script_argument_is_one_file(self, tmp_path: Path) -> None:
        script = executable(tmp_path / "project" / "agent.py", "print('started')")
        (tmp_path / "project" / ".env").write_text("SECRET=1")
        argv = ["python3", str(script), "/missing/file", "--flag", str(tmp_path)]
        assert program_folders(argv, SEARCH_PATH) == (script,)

    def test_an_installation_is_the_folder_above_bin(self, tmp_path: Path) -> None:
        program = executable(tmp_path / "opt" / "agent" / "bin" / "agent")
        assert program_folders([str(program)], SEARCH_PATH) == (tmp_path / "opt" / "agent",)

    def test_every_hop_of_a_link(self, tmp_path: Path) -> None:
        program = executable(tmp_path / "lib" / "node_modules" / "agent" / "cli.js")
        first = tmp_path / "prefix" / "bin" / "agent"
        first.parent.mkdir(parents=True)
        first.symlink_to("../../lib/node_modules/agent/cli.js")
        assert program_folders(["agent"], str(first.parent)) == (tmp_path / "prefix", program.parent)
        argv = ["agent"]
        result = isolated([str(first)], tmp_path, readable=program_folders(argv, str(first.parent)))
        assert result.stdout == b"started\n", result.stderr

    def test_links_in_a_circle_end(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        assert program_folders([str(tmp_path / "a")], SEARCH_PATH) == ()

    @pytest.mark.parametrize("place", ["bin", ".local/bin", ""])
    def test_a_home_is_never_an_installation(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
    ) -> None:
        home = tmp_path / "home" / "someone"
        monkeypatch.setenv("HOME", str(home))
        program = executable(home / place / "agent")
        assert program_folders([str(program)], SEARCH_PATH) == (program,)

    @pytest.mark.parametrize(
        "program",
        ["/home/other/bin/agent", "/home/other/.local/bin/agent", "/srv/bin/agent", "/srv/agent", "/agent"],
    )
    def test_nor_another_home_nor_a_folder_below_the_root(
        self, monkeypatch: pytest.MonkeyPatch, program: str
    ) -> None:
        monkeypatch.setattr("shutil.which", lambda name, path: name)
        assert program_folders([program], SEARCH_PATH) == (Path(program),)


class TestHidden:
    @pytest.fixture
    def data_dir(self, tmp_path: Path) -> Path:
        folder = tmp_path / "var" / "data"
        (folder / "mirrors" / "objects").mkdir(parents=True)
        (folder / "mirrors" / "objects" / "pack").write_text("objects")
        (folder / "database").write_text("secret")
        (tmp_path / "var" / "beside").write_text("readable")
        return folder

    def look(self, tmp_path: Path, *names: Path) -> list[str]:
        return ["sh", "-c", 'for path; do [ -e "$path" ] && cat "$path"; done; true', "sh", *map(str, names)]

    @pytest.mark.parametrize("above", [0, 1, 2])
    def test_below_a_readable_folder(self, tmp_path: Path, data_dir: Path, above: int) -> None:
        read = [data_dir, *data_dir.parents][above]
        objects = data_dir / "mirrors" / "objects"
        argv = self.look(tmp_path, data_dir / "database", objects / "pack", tmp_path / "var" / "beside")
        result = isolated(argv, tmp_path, read_paths=(read,), readable=(objects,), hidden=(data_dir,))
        assert result.ok, result.stderr
        assert b"secret" not in result.stdout
        assert b"objects" in result.stdout
        assert (b"readable" in result.stdout) == (above > 0)

    def test_behind_a_link(self, tmp_path: Path, data_dir: Path) -> None:
        link = tmp_path / "link"
        link.symlink_to(data_dir)
        argv = self.look(tmp_path, data_dir / "database", link / "database", tmp_path / "var" / "beside")
        result = isolated(argv, tmp_path, read_paths=(tmp_path / "var",), hidden=(link,))
        assert result.ok, result.stderr
        assert result.stdout == b"readable"

    def test_own_folders_below_a_hidden_one_are_seen(self, tmp_path: Path, data_dir: Path) -> None:
        own = data_dir / "own"
        own.mkdir()
        argv = ["sh", "-c", f"echo written > {own}/file; ls {data_dir}"]
        result = isolated(argv, tmp_path, writable=(own,), hidden=(data_dir,))
        assert (result.stdout, (own / "file").read_text()) == (b"own\n", "written\n")

    def test_what_is_readable_is_not_writable(self, tmp_path: Path) -> None:
        folder = tmp_path / "tool"
        folder.mkdir()
        result = isolated(["sh", "-c", f"touch {folder}/x"], tmp_path, readable=(folder,))
        assert not result.ok
        assert list(folder.iterdir()) == []

    def test_a_missing_readable_folder_is_no_error(self, tmp_path: Path) -> None:
        assert isolated(["true"], tmp_path, readable=(tmp_path / "missing",)).ok


class TestProfile:
    def test_the_environment_is_clean_down_to_the_first_process(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SERVER_CANARY", "canary-4711")
        result = isolated(["sh", "-c", "cat /proc/*/environ"], tmp_path)
        assert b"canary-4711" not in result.stdout
        assert b"HOME=" in result.stdout

    def test_dies_with_the_server(self, tmp_path: Path) -> None:
        argv = isolated_argv(
            ["true"], settings=IsolationSettings("bubblewrap"), workspace=tmp_path, home=tmp_path
        )
        assert {"--die-with-parent", "--unshare-pid", "--unshare-ipc", "--cap-drop"} <= set(argv)

    def test_programs_cannot_be_changed(self, tmp_path: Path) -> None:
        result = isolated(["sh", "-c", "touch /usr/bin/canary-x || touch /bin/canary-x"], tmp_path)
        assert not result.ok
        assert not os.path.lexists("/usr/bin/canary-x")

    def test_a_missing_bubblewrap_says_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(SandboxUnavailable) as caught:
            find_bubblewrap(str(tmp_path))
        assert "apt-get install bubblewrap" in caught.value.advice
