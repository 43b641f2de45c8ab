"""A machine to install on, without a network: a root file system of its own, in which the tests' root is root.

Its accounts, /etc and /var are new, /root is empty, and the programs are this machine's. `uv sync` cannot be run: code
and environment are put where it would have put them, with a Python that every account may read.
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.e2e.harness import ROOT

CODE = "/opt/work-orders"
PYTHON = "/opt/work-orders-python"
_ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "group": "root:x:0:\n",
    "shadow": "root:*:19000:0:99999:7:::\n",
    "gshadow": "root:*::\n",
    "hosts": "127.0.0.1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
    "login.defs": "SYS_UID_MIN 100\nSYS_UID_MAX 999\nSYS_GID_MIN 100\nSYS_GID_MAX 999\nUSERGROUPS_ENAB yes\n",
}


class ServerRoot:
    """`folder` holds what is written there; `run` is a shell of root inside it."""

    def __init__(self, folder: Path, *, python_in_roots_home: bool = False) -> None:
        self.folder = folder
        self._python = "/root/python" if python_in_roots_home else PYTHON
        for name in ("etc/systemd/system", "var/lib", "root", "usr-local-bin", "opt"):
            (folder / name).mkdir(parents=True)
        (folder / "root").chmod(0o700)
        for name, text in _ETC.items():
            (folder / "etc" / name).write_text(text)
        self.code = folder / "opt" / "work-orders"
        (folder / "etc" / "ld.so.conf").write_text(
            f"{self._python}/lib\n"
        )  # a Python with a library of its own
        self._copy_code()
        self._make_environment()
        made = self.run("ldconfig")
        assert made.returncode == 0, made.stderr

    def run(self, script: str, *, seconds: float = 120) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*self._bwrap(), "/bin/sh", "-eu", "-c", script],
            env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def _copy_code(self) -> None:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            if not name.startswith(("tests/", "docs/screenshots/")) and (ROOT / name).is_file():
                target = self.code / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, target)

    def _make_environment(self) -> None:
        """As `uv` makes it: links to the Python, packages below it."""
        environment = self.code / ".venv"
        (environment / "bin").mkdir(parents=True)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        (environment / "bin" / "python").symlink_to(f"{self._python}/bin/{version}")
        (environment / "pyvenv.cfg").write_text(f"home = {self._python}/bin\n")
        self._packages = environment / "lib" / version / "site-packages"
        self._packages.mkdir(parents=True)

    def _bwrap(self) -> list[str]:
        inside = "/" + str(self._packages.relative_to(self.folder))
        return [
            *(
                "bwrap",
                "--die-with-parent",
                "--unshare-net",
                "--unshare-pid",
                "--unshare-ipc",
                "--cap-add",
                "ALL",
            ),
            *("--ro-bind", "/usr", "/usr", "--bind", str(self.folder / "usr-local-bin"), "/usr/local/bin"),
            *("--symlink", "usr/bin", "/bin", "--symlink", "usr/sbin", "/sbin"),
            *("--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"),
            *("--bind", str(self.folder / "etc"), "/etc", "--bind", str(self.folder / "var"), "/var"),
            *("--bind", str(self.folder / "opt"), "/opt", "--bind", str(self.folder / "root"), "/root"),
            *("--ro-bind", sys.base_prefix, self._python),
            *("--ro-bind", sysconfig.get_path("purelib"), inside),
            *("--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp"),
            *("--perms", "1777", "--tmpfs", "/dev/shm"),
        ]
