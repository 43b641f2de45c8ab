"""Two things at once, where each waits for something else: another process, or the database."""

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context, copy_context
from threading import Event, Thread

from sandboxes.processes.run import telling_start

_SOON_SECONDS = 0.02


def both[A, B](here: Callable[[], A], beside: Callable[[], B]) -> tuple[A, B]:
    """Call the one in this thread and the other in a second one, which sees this one's context.

    Returns when both have ended; raises what `here` raised, else what `beside` did.
    """
    outcome, thread = _start(beside, copy_context())
    try:
        return here(), outcome.result()
    finally:
        thread.join()


def after_start[A, B](here: Callable[[], A], beside: Callable[[], B]) -> tuple[A, B]:
    """`both`, with `beside` begun only once `here` has started a command, or ended, or soon.

    Both need this process's one interpreter: `here` to start its command, and `beside` all the time. So the command
    runs while `beside` does, and neither waits for the other.
    """
    has_started = Event()

    def first() -> A:
        try:
            with telling_start(has_started.set):
                return here()
        finally:
            has_started.set()

    def second() -> B:
        has_started.wait(_SOON_SECONDS)
        return beside()

    return both(first, second)


def ahead[T](function: Callable[[], T]) -> Future[T]:
    """Begin something whose outcome is fetched later, or never; it sees nothing of this thread's context."""
    return _start(function, Context())[0]


def _start[T](function: Callable[[], T], context: Context) -> tuple[Future[T], Thread]:
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # handed to the caller, whatever it is
            outcome.set_exception(error)

    thread = Thread(target=context.run, args=(run,), name="beside", daemon=True)
    thread.start()
    return outcome, thread
