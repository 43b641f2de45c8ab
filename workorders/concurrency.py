"""Two things at once, where each waits for something else: another process, or the database."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context


def both[A, B](here: Callable[[], A], beside: Callable[[], B]) -> tuple[A, B]:
    """Call the one in this thread and the other in a second one, which sees this one's context.

    Returns when both have ended; raises what `here` raised, else what `beside` did.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="beside") as pool:
        running = pool.submit(copy_context().run, beside)
        return here(), running.result()
