"""Two things at once, where each waits for something else: another process, or the database."""

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from threading import Thread


def both[A, B](here: Callable[[], A], beside: Callable[[], B]) -> tuple[A, B]:
    """Call the one in this thread and the other in a second one, which sees this one's context.

    Returns when both have ended; raises what `here` raised, else what `beside` did.
    """
    outcome: Future[B] = Future()

    def run() -> None:
        try:
            outcome.set_result(beside())
        except BaseException as error:  # handed to the caller, whatever it is
            outcome.set_exception(error)

    thread = Thread(target=copy_context().run, args=(run,), name="beside")
    thread.start()
    try:
        return here(), outcome.result()
    finally:
        thread.join()
