"""What the model gateway adds to an answer's first byte, against the same request straight to the same scripted API.

The gateway is the product's own process with its books in a SQLite file; the API answers from this process and
streams: one event, a pause, the rest. Both connections are kept alive, as Claude Code keeps its own, and take turns.
"""

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from tests.benchmarks.in_process import start_django
from tests.benchmarks.measure import Limit, Row, milliseconds
from tests.fakes.messages_api import MessagesApi, Reply, always, text

ROOT = Path(__file__).resolve().parents[2]
LIMIT_MS = 5.0
PROMPT_BYTES = 100_000  # about what Claude Code's instructions and tools make of a short prompt
PAUSE_SECONDS = 0.01  # longer than the gateway needs to pass the first event on
BODY = json.dumps(
    {
        "model": "claude-sonnet-5",
        "max_tokens": 100,
        "stream": True,
        "messages": [{"role": "user", "content": "x" * PROMPT_BYTES}],
    }
)


def run(folder: Path, *, tiny: bool = False) -> list[Row]:
    count = 5 if tiny else 300
    start_django(folder)
    token = _step_token()
    reply = Reply([text("Hello.")], pause_seconds=PAUSE_SECONDS)
    straight, through = [], []
    with MessagesApi(always(reply)) as api, _gateway(folder, api.url) as url:
        direct, metered = _Caller(api.url, token), _Caller(url, token)
        for caller in (direct, metered):
            caller.seconds_to_first_byte()  # connects
        for _ in range(count):
            straight.append(direct.seconds_to_first_byte())
            through.append(metered.seconds_to_first_byte())
    values, floor = milliseconds(through), milliseconds(straight)
    return [
        Row(
            what="gateway: request → first byte of the answer's body",
            values=values,
            floor_values=floor,
            floor_is="the same request straight to the API",
            limits=(Limit(f"adds < {LIMIT_MS:.0f} ms", median(values) - median(floor), LIMIT_MS),),
        )
    ]


def _step_token() -> str:
    """A token of a step that stays claimed for as long as this runs."""
    from tests.factories import make_order  # only now: models need Django to be set up
    from tests.workflow_engine.rows import claim, placed
    from workorders.workflow_engine.record.journal import StepJournal
    from workorders.workflow_engine.record.recorder import InlineDatabase

    journal = StepJournal(claim(make_order(), lease_seconds=3600), InlineDatabase())
    journal.begin()
    return placed(journal, lifetime_seconds=3600)


@contextmanager
def _gateway(folder: Path, upstream_url: str) -> Iterator[str]:
    """The address of a `model_gateway` process on the books in `folder`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        environment = {
            "HOME": str(folder),
            "WORKORDERS_SECRET_KEY": "for-benchmarks-only",
            "WORKORDERS_DATA_DIR": str(folder),
            "WORKORDERS_LOG_LEVEL": "WARNING",
            "ANTHROPIC_BASE_URL": upstream_url,
            "ANTHROPIC_API_KEY": "the-real-key",
        }
        process = subprocess.Popen(
            [sys.executable, "manage.py", "model_gateway", f"--fd={listener.fileno()}"],
            cwd=ROOT,
            env=environment,
            pass_fds=[listener.fileno()],
        )
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.terminate()
            process.wait(30)


class _Caller:
    """One kept connection."""

    def __init__(self, url: str, token: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        self._headers = {"content-type": "application/json", "x-api-key": token}

    def seconds_to_first_byte(self) -> float:
        started = time.perf_counter()
        self._connection.request("POST", "/v1/messages", BODY, self._headers)
        answer = self._connection.getresponse()
        first = answer.read(1)
        seconds = time.perf_counter() - started
        rest = answer.read()
        if answer.status != http.HTTPStatus.OK or not first:
            raise RuntimeError(f"answered {answer.status}: {rest[:500]!r}")
        return seconds
