"""Two things at once, where each waits for something else: another process, or the database."""

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context, copy_context
from threading import Thread


def both[A, B](here: Callable[[], A], beside: Callable[[], B]) -> tuple[A, B]:
    """Call the one in this thread and the other in a second one, which sees this one's context.

    Returns when both have ended; raises what `here` raised, else what `beside` did.
    """
    outcome, thread = _start(beside, copy_context())
    try:
        return here(), outcome.result()
    finally:
        thread.join()


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
