"""Types of command line arguments: a wrong one ends the command with what it may be."""

from argparse import ArgumentTypeError
from collections.abc import Callable

MOST_SECONDS = 10_000_000
MOST_WORKERS = 1000  # as WORKORDERS_WORKERS


def whole_number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return number

    return parse


def seconds(text: str) -> float:
    """More than none; neither infinity nor what is no number, with which a wait would never end."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= MOST_SECONDS:
        raise ArgumentTypeError(f"{text!r} is no number of seconds from 0 to {MOST_SECONDS}")
    return number


port = whole_number(1, 65535)
workers = whole_number(1, MOST_WORKERS)
