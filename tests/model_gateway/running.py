"""A gateway in a thread of the test, with books in memory, in front of the scripted Messages API."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from workorders.model_gateway.ledger import Denial, Grant, Spending
from workorders.model_gateway.meter import Account
from workorders.model_gateway.prices import PriceTable, load_prices
from workorders.model_gateway.run import serve
from workorders.model_gateway.server import Gateway, GatewayLimits
from workorders.model_gateway.upstream import Upstream
from workorders.models.model_access import TOKEN_PREFIX, token_hash

TOKEN = f"{TOKEN_PREFIX}of-the-test"
REAL_KEY = "sk-ant-the-real-key"
GRANT = Grant(1, 1, 1, "wo-aaaaaaaa", None, Decimal(0))


@dataclass
class MemoryLedger:
    """Books in memory; `answer` is what the token counts for now."""

    answer: Grant | Denial = GRANT
    spendings: list[Spending] = field(default_factory=list)
    refused: int = 0
    errors: list[tuple[int, float | None]] = field(default_factory=list)
    valid: bool = True
    failures: list[Exception] = field(default_factory=list)
    asked: int = 0

    def find(self, digest: str) -> Grant | Denial:
        self.asked += 1
        if digest != token_hash(TOKEN):
            return Denial("this is no token of a step", known=False)
        if isinstance(self.answer, Denial):
            return self.answer
        return self.grant_now(self.answer)

    def grant_now(self, grant: Grant) -> Grant:
        """With what was spent so far."""
        spent = sum((item.cost_usd or Decimal(0) for item in self.spendings), grant.spent_usd)
        return replace(grant, spent_usd=spent)

    def record(self, _grant: Grant, spending: Spending) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.spendings.append(spending)

    def refuse_for_budget(self, _grant: Grant) -> None:
        self.refused += 1

    def note_error(self, _grant: Grant, status: int, resets_in_seconds: float | None) -> None:
        self.errors.append((status, resets_in_seconds))

    def still_valid(self, access_pks: list[int]) -> set[int]:
        return set(access_pks) if self.valid else set()


@dataclass
class Running:
    url: str
    ledger: MemoryLedger


@contextmanager
def running_gateway(
    upstream_url: str,
    *,
    ledger: MemoryLedger | None = None,
    limits: GatewayLimits | None = None,
    prices: PriceTable | None = None,
    **upstream: Any,
) -> Iterator[Running]:
    books = ledger or MemoryLedger()
    listener = socket.create_server(("127.0.0.1", 0))
    started, ended = threading.Event(), threading.Event()
    failures: list[BaseException] = []
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        credential = upstream or {"api_key": REAL_KEY}
        account = Account(books, prices or load_prices())
        started.set()
        await serve(Gateway(account, Upstream(base_url=upstream_url, **credential), limits), listener, stop)

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            failures.append(error)
        finally:
            listener.close()
            ended.set()

    thread = threading.Thread(target=run, name="gateway", daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", books)
    finally:
        loop, stop = loops[0]
        if not ended.is_set():
            loop.call_soon_threadsafe(stop.set)
        assert ended.wait(15), "the gateway did not stop"
        thread.join(5)
        assert not failures, failures
