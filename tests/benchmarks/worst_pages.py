"""The worst pages and twenty people who look at them, while `/healthz` and an ordinary order's page are asked for.

A real `serve` on SQLite whose orders have the longest diffs, plans and logs that are kept, with two thousand files,
hostile Markdown, and searches that match all or nothing (`worst_rows`). The floor is the same two addresses asked at
the same rate just before, with nobody looking. People look at one page after the other in an order of their own, each
for a second; a second row has twenty programs that never pause, which is no limit but says what is behind it.

The twenty are one process without threads of the highest niceness, so that clients on the same cores take as little
from the server as can be; who measures is a process with the server's own.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.benchmarks.measure import Limit, Row, milliseconds, percentile
from tests.benchmarks.repositories import make_remote
from tests.benchmarks.servers import MeasuredServer
from tests.e2e.harness import ROOT

PEOPLE = 20
LOOKS_SECONDS = 1.0
ASK_EVERY_SECONDS = 0.05
LIMIT = 2.0
_READ = 256 * 1024


def run(folder: Path, *, tiny: bool = False) -> list[Row]:
    seconds = 1.0 if tiny else 15.0
    sizes = {"files": 40, "log_rows": 2000, "others": 20} if tiny else {}
    sizes = sizes or {"files": 2000, "log_rows": 100_000, "others": 10_000}
    remote = make_remote(folder / "remote.git")
    with MeasuredServer(folder / "server") as server:
        order = server.measure(remote).order_id
        watched = {"/healthz": "/healthz", "an order's page": f"/work-orders/{order}/"}
        pages = _worst(server, sizes)
        _warm(server, [*watched.values(), *pages.values()])
        idle = {name: _asked(server, path, seconds) for name, path in watched.items()}
        rows = []
        for pause, words in ((LOOKS_SECONDS, f"{PEOPLE} people look"), (0.0, f"{PEOPLE} programs ask")):
            with _people(server, list(pages.values()), pause) as told:
                time.sleep(seconds / 4)
                busy = {name: _asked(server, path, seconds) for name, path in watched.items()}
            rows += [_row(name, words, busy[name], idle[name], told, is_limit=pause > 0) for name in watched]
    return rows


def _row(
    name: str,
    words: str,
    busy: Sequence[float],
    idle: Sequence[float],
    told: dict[str, float],
    *,
    is_limit: bool,
) -> Row:
    floor = percentile(idle, 0.95)
    factor = percentile(busy, 0.95) / floor
    limit = Limit(f"p95 ≤ {LIMIT:g} × idle p95", factor, LIMIT)
    return Row(
        what=f"worst_pages: {name} while {words} at the worst pages",
        values=milliseconds(busy),
        floor_values=milliseconds(idle),
        floor_is=f"nobody looks, p95 {floor * 1000:.2f} ms",
        limits=(limit,) if is_limit else (),
        notes=(
            f"p95 {factor:.2f} × idle; they got {told['pages']:.0f} pages, {told['seconds']:.2f} s each on average, "
            f"the longest took {told['longest']:.2f} s; {told['failed']:.0f} failed",
        ),
    )


def _worst(server: MeasuredServer, sizes: dict[str, int]) -> dict[str, str]:
    code = f"from tests.benchmarks import worst_rows; worst_rows.main(**{sizes!r})"
    made = server.manage("shell", "--verbosity=0", "--command", code, timeout=300)
    if made.returncode != 0:
        raise RuntimeError(made.stderr[-2000:])
    pages: dict[str, str] = json.loads(made.stdout.strip().splitlines()[-1])
    return pages


def _warm(server: MeasuredServer, paths: Sequence[str]) -> None:
    for path in [*paths, *paths]:
        server.http.get(path).raise_for_status()


def _asked(server: MeasuredServer, path: str, seconds: float) -> list[float]:
    """Seconds until each whole answer, at a steady rate, each on a connection that is kept."""
    values = []
    due = time.monotonic()
    end = due + seconds
    with httpx.Client(base_url=server.http.base_url, timeout=60, trust_env=False) as client:
        while time.monotonic() < end:
            started = time.perf_counter()
            client.get(path).raise_for_status()
            values.append(time.perf_counter() - started)
            due = max(due + ASK_EVERY_SECONDS, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
    return values


@contextmanager
def _people(server: MeasuredServer, pages: list[str], pause: float) -> Iterator[dict[str, float]]:
    """A process that is all of them; what it tells of its pages is there at the end."""
    told: dict[str, float] = {}
    asked = json.dumps({"port": server.port, "pages": pages, "pause": pause})
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.worst_pages", asked],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(server.folder / "home")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.nice(19),  # this process has one thread
    ) as process:
        try:
            yield told
        finally:
            told |= json.loads(process.communicate(timeout=120)[0])


class _Person:
    """Opens one page after the other on a connection that is kept, as a browser does."""

    def __init__(self, number: int, port: int, pages: list[str], pause: float) -> None:
        self._random = random.Random(number)
        self._port, self._pages, self._pause = port, pages, pause
        self.times: list[float] = []
        self.failed = 0

    async def look(self) -> None:
        await asyncio.sleep(self._random.random() * self._pause)
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=_READ)
                while True:
                    await self._open(reader, writer)
                    await asyncio.sleep(self._pause * self._random.uniform(0.5, 1.5))
            except (OSError, ValueError, asyncio.IncompleteReadError):
                self.failed += 1
                await asyncio.sleep(0.1)

    async def _open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = self._random.choice(self._pages)
        started = time.monotonic()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        if " 200 " not in head.partition("\r\n")[0]:
            raise ValueError(head)
        if "content-length: " in head:
            await _skip(reader, int(head.partition("content-length: ")[2].partition("\r\n")[0]))
        else:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                await _skip(reader, size + 2)
            await reader.readuntil(b"\r\n")
        self.times.append(time.monotonic() - started)


async def _skip(reader: asyncio.StreamReader, size: int) -> None:
    while size:
        size -= len(await reader.read(min(size, _READ))) or size


async def _all_look(port: int, pages: list[str], pause: float) -> None:
    """Until standard input ends."""
    people = [_Person(number, port, pages, pause) for number in range(PEOPLE)]
    looking = [asyncio.create_task(person.look()) for person in people]
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for task in looking:
        task.cancel()
    times = [seconds for person in people for seconds in person.times] or [0.0]
    failed = sum(person.failed for person in people)
    numbers = {
        "pages": len(times),
        "seconds": sum(times) / len(times),
        "longest": max(times),
        "failed": failed,
    }
    print(json.dumps(numbers))


if __name__ == "__main__":
    asyncio.run(_all_look(**json.loads(sys.argv[1])))
