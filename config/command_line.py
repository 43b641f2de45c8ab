"""What every `manage.py` command has in common: whose files it writes, where it works, and how it fails.

A command ends with what to do, in words and with a code that is not 0, for whatever its user did: wrong values, a
database that is away, a folder of another account, Ctrl-C, an output nobody reads. What is left is a defect of Work
Orders and keeps its traceback; so does everything with `--traceback`.
"""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from config import env
from sandboxes.errors import ExpectedError
from sandboxes.files.ownership import other_owner, this_account
from sandboxes.processes.hardening import close_folder, make_undumpable

SERVING = frozenset({"serve", "qcluster", "quickstart"})
# These write into the code's folder, for every account to read, and nothing into the data folder.
OF_THE_CODE = frozenset({"collectstatic", "makemigrations", "squashmigrations", "startapp", "makemessages"})
# These write nowhere; `doctor` says of itself whose folder it is.
READING = frozenset({"check", "diffsettings", "doctor", "findstatic", "help", "version", "model_gateway"})
# These change something for people and say where: two databases are easily confused.
CHANGING = frozenset(
    {
        *("approve_work_order", "cancel_work_order", "continue_work_order", "create_work_order"),
        *("retry_work_order", "recover_work_orders", "create_api_key", "revoke_api_key", "backup", "prune"),
        *("migrate", "createsuperuser", "changepassword", "loaddata", "flush", "clearsessions"),
        *("axes_reset", "axes_reset_ip", "axes_reset_username", "axes_reset_ip_username", "axes_reset_logs"),
    }
)
# These go on after Ctrl-C, or take their time to end.
TALKING = frozenset({"quickstart", "shell", "dbshell", "runserver", "testserver"})
INTERRUPTED = 130  # as a shell says it
_GOODBYE_SECONDS = 10
_NO_OUTPUT = 1
_USAGE = 2


class CommandRefused(Exception):
    """The command cannot run here, or not by this account; the message says what to do."""


def main(argv: Sequence[str]) -> int:
    """The exit code of a `manage.py` command; what went wrong is said on standard error."""
    make_undumpable()  # its environment and memory hold the secrets
    _open_closed_streams()
    command = argv[1] if len(argv) > 1 else "help"
    os.umask(0o022 if command in OF_THE_CODE else 0o077)  # what is written is its own account's
    env.point_django_at_settings()
    try:
        code = _run(command, argv)
    except SystemExit as ended:
        code = _said(ended)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))  # a second one ends the good-byes
        code = _fail("Interrupted.", INTERRUPTED)
    except Exception as error:
        words = "" if "--traceback" in argv else _explained(error)
        if not words:
            raise
        code = _fail(words, _USAGE if isinstance(error, UnicodeError) else 1)
    return _flushed(code)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Raises `KeyboardInterrupt`, which Python ignores in a callback: then the command ends some seconds later."""
    signal.signal(signal.SIGALRM, _end_interrupted)
    signal.alarm(_GOODBYE_SECONDS)
    raise KeyboardInterrupt


def _end_interrupted(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b"Interrupted.\n")
    os._exit(INTERRUPTED)


def _run(command: str, argv: Sequence[str]) -> int:
    if any(_is_no_text(argument) for argument in argv):
        raise CommandRefused("An argument is not text in UTF-8; type it again.")
    if command == "quickstart":
        _refuse_in_folder_of_others(env.named_data_folder())  # before a key is made there
        env.use_embedded_defaults()
    environment = env.current()
    env.make_data_folder(environment.data_dir)
    if command not in READING | OF_THE_CODE and not {"-h", "--help"} & set(argv):
        _refuse_in_folder_of_others(environment.data_dir)
    if command in SERVING:
        close_folder(environment.data_dir)
    if command in CHANGING and not {"-h", "--help"} & set(argv):
        _say(f"Database: {environment.database_words}. Data folder: {environment.data_dir}.")
    if command not in {"serve", "qcluster"} and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt if command not in TALKING else signal.default_int_handler)
    from django.core.management import execute_from_command_line

    execute_from_command_line(list(argv))
    return 0


def _is_no_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return True
    return False


def _refuse_in_folder_of_others(folder: Path) -> None:
    """Raises `CommandRefused`. An account that shares the folder by its group may work; only root never may."""
    owner, me = other_owner(folder), this_account()
    if not owner or (os.geteuid() != 0 and os.access(folder, os.R_OK | os.W_OK | os.X_OK)):
        return
    wrapper = env.BASE_DIR / "deploy" / "work-orders"
    again = (
        f"As root, `{wrapper} <command>` does so, with the server's environment; `sudo -u {owner}` does, too."
    )
    if os.geteuid() == 0:
        again += f" If root is to run the server: chown -R root: {folder}"
    raise CommandRefused(
        f"The data folder {folder} belongs to {owner}, and this is {me}: what one writes there, the other cannot "
        f"change. Run this as {owner}. {again}"
    )


def _explained(error: BaseException) -> str:
    """What happened and what to do; '' for what nobody expected."""
    if isinstance(error, env.EnvironmentInvalid | CommandRefused):
        return str(error)
    if isinstance(error, BrokenPipeError):
        return "Nobody reads the output any more; not all of it was written."
    if isinstance(error, ExpectedError):
        return f"{error}\n{error.advice}".strip()
    if isinstance(error, EOFError):
        return "An answer was needed and the input has ended. Run it in a terminal."
    if isinstance(error, UnicodeError):
        return "An argument has characters that cannot be used there. Type it again."
    if isinstance(error, MemoryError):
        return "There is not enough memory for this."
    if isinstance(error, ImportError):
        return _settings_missing(error)
    if isinstance(error, OSError):
        return _file_trouble(error)
    return _of_django(error)


def _settings_missing(error: ImportError) -> str:
    """Somebody named other settings; any other module that is missing is an installation's defect."""
    chosen = env.settings_module()
    if error.name and chosen != env.SETTINGS_MODULE and chosen.startswith(error.name):
        return f"There are no settings {chosen!r}. Leave DJANGO_SETTINGS_MODULE and --settings out."
    return ""


def _file_trouble(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    words = f"{place}{error.strerror or error}."
    if isinstance(error, PermissionError):
        return f"{words} This is {this_account()}; `doctor` says whose files are whose."
    return words


def _of_django(error: BaseException) -> str:
    """Imported only now: an error may come before Django is there."""
    from django.core.exceptions import ImproperlyConfigured, ValidationError
    from django.core.serializers.base import DeserializationError
    from django.db import Error
    from django.db.migrations import exceptions as migrations

    of_migrations = tuple(
        kind for kind in vars(migrations).values() if isinstance(kind, type) and issubclass(kind, Exception)
    )
    if isinstance(error, Error):
        from workorders.management.database import in_words

        return in_words(error)
    if isinstance(error, of_migrations):
        return f"{_one_line(error)}. Say which migrations you want with `showmigrations` at hand, or update the code."
    if type(error) is LookupError:  # an app or model that was named; its subclasses are defects
        return f"{_one_line(error)}. Correct that, and try again."
    if isinstance(error, ImproperlyConfigured | ValidationError | DeserializationError):
        return f"{_one_line(error)}. Correct that, and try again."
    return ""


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500].rstrip(".")


def _said(ended: SystemExit) -> int:
    """As the interpreter has it: a text is said and is 1."""
    if isinstance(ended.code, int) or ended.code is None:
        return ended.code or 0
    return _fail(str(ended.code), 1)


def _fail(words: str, code: int) -> int:
    _say(words)
    return code


def _say(words: str) -> None:
    from workorders.text.redaction import redact

    with suppress(OSError, ValueError):
        print(redact(words), file=sys.stderr, flush=True)


def _flushed(code: int) -> int:
    """Write out what is left; an output that is full or that nobody reads is said, and is no success."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        _discard(sys.stdout.fileno())  # or the interpreter complains at its end
        if not code:
            _say(f"The output could not be written: {_explained(error) or error}")
            code = _NO_OUTPUT
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        _discard(sys.stderr.fileno())
    return code


def _discard(descriptor: int) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)


def _open_closed_streams() -> None:
    """A program started without them must not write its output into the next file it opens.

    Characters the terminal cannot show are written as escapes, rather than ending the command.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # the lowest free number, so this one; reading from or writing to it fails
            os.open("/dev/full" if descriptor == 1 else os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, "r", closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # both are text files
