"""Keeps the account of running answers: what each has cost so far, and writing it down outside the event loop.

Reads and writes have a thread each, so that a token is looked up while a write waits for the database. What cannot
be written waits for the next try and counts against the budget meanwhile.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal

import structlog
from django.db import DatabaseError, InterfaceError, connections

from workorders.model_gateway.ledger import Denial, Grant, Ledger, Spending
from workorders.model_gateway.prices import PriceTable
from workorders.model_gateway.usage import Usage, UsageReader

logger = structlog.get_logger("workorders")
WRITE_SECONDS = 5.0
_PAUSE_SECONDS = 0.5
_AWAY = (DatabaseError, InterfaceError)


@dataclass(eq=False)
class Meter:
    """One request's account. `written` and `charged` (US dollars) are what the books hold of it already.

    `error_noted`: so is an error that came inside the answer.
    """

    grant: Grant
    model: str
    reader: UsageReader | None = None
    written: Usage = field(default_factory=Usage)
    charged: Decimal = Decimal(0)
    counted: bool = False
    error_noted: bool = False

    def unwritten(self) -> Usage:
        return self.reader.usage - self.written if self.reader else Usage()


class Account:
    """The books and the answers under way; lives in one event loop."""

    def __init__(self, ledger: Ledger, prices: PriceTable) -> None:
        self._ledger = ledger
        self._prices = prices
        self._meters: set[Meter] = set()
        self._waiting: dict[int, Decimal] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reads = ThreadPoolExecutor(1, "gateway-reads")
        self._writes = ThreadPoolExecutor(1, "gateway-writes")

    async def find(self, token_hash: str) -> Grant | Denial:
        """Raises what the database raises."""
        return await self._in(self._reads, lambda: self._ledger.find(token_hash))

    async def still_valid(self, access_pks: list[int]) -> set[int]:
        return await self._in(self._reads, lambda: self._ledger.still_valid(access_pks))

    def has_price(self, model: str, *, fast: bool = False) -> bool:
        return self._prices.price_of(model, fast=fast) is not None

    def open(self, grant: Grant, model: str) -> Meter:
        meter = Meter(grant, model)
        self._meters.add(meter)
        return meter

    def spent(self, grant: Grant) -> Decimal:
        """What the books hold, what waits to be written, and what is under way."""
        running = (
            self._owed(meter) or Decimal(0) for meter in self._meters if meter.grant.run_pk == grant.run_pk
        )
        return grant.spent_usd + self._waiting.get(grant.run_pk, Decimal(0)) + sum(running, Decimal(0))

    def _owed(self, meter: Meter) -> Decimal | None:
        """What the answer costs so far less what the books hold of it; None where its model has no known price.

        Of the whole answer, for its prompt's size sets the price of every token, also of those that come later.
        """
        reader = meter.reader
        if reader is None:
            return Decimal(0)
        price = self._prices.price_of(reader.model or meter.model, fast=reader.fast)
        return max(Decimal(0), price.of(reader.usage) - meter.charged) if price else None

    async def write_down(self, meter: Meter) -> None:
        """Bring the books up to this answer's state; returns when it is written, or after `WRITE_SECONDS`."""
        reader = meter.reader
        usage, cost = meter.unwritten(), self._owed(meter)
        if reader is None or (usage == Usage() and not cost):
            return
        spending = Spending(
            model=reader.model or meter.model,
            usage=usage,
            cost_usd=cost,
            estimated=reader.estimated,
            requests=0 if meter.counted else 1,
        )
        meter.written, meter.counted = meter.written + usage, True
        meter.charged += cost or Decimal(0)
        await self._patiently(meter.grant, cost, lambda: self._ledger.record(meter.grant, spending))

    def close(self, meter: Meter) -> None:
        """The answer is over; what is left of it is written in the background."""
        if meter.unwritten() != Usage() or self._owed(meter):
            self._keep(asyncio.create_task(self.write_down(meter)))
        self._meters.discard(meter)

    async def refuse_for_budget(self, grant: Grant) -> None:
        """Noted before the agent hears of it, for the step's worker asks once the agent has ended."""
        await self._patiently(grant, None, lambda: self._ledger.refuse_for_budget(grant))

    async def note_error(self, grant: Grant, status: int, resets_in_seconds: float | None) -> None:
        await self._patiently(grant, None, lambda: self._ledger.note_error(grant, status, resets_in_seconds))

    async def settle(self, seconds: float) -> None:
        """Give what waits to be written a last chance, then let go of the threads."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=seconds)
        for pool in (self._reads, self._writes):
            await asyncio.get_running_loop().run_in_executor(pool, connections.close_all)
            pool.shutdown(wait=False, cancel_futures=True)

    def _keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """A task nobody else holds could be collected before it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _patiently(self, grant: Grant, cost: Decimal | None, write: Callable[[], None]) -> None:
        """Write until it is written; the caller waits for a while only, the writing goes on."""
        self._wait_for(grant, cost or Decimal(0))
        task = self._keep(asyncio.create_task(self._write(grant, cost or Decimal(0), write)))
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), WRITE_SECONDS)

    async def _write(self, grant: Grant, cost: Decimal, write: Callable[[], None]) -> None:
        while True:
            try:
                await self._in(self._writes, write)
            except _AWAY as error:
                logger.warning("model_usage_waiting", error=str(error)[:200])
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            self._wait_for(grant, -cost)
            return

    def _wait_for(self, grant: Grant, cost: Decimal) -> None:
        waiting = self._waiting.get(grant.run_pk, Decimal(0)) + cost
        if waiting:
            self._waiting[grant.run_pk] = waiting
        else:
            self._waiting.pop(grant.run_pk, None)

    async def _in[T](self, pool: ThreadPoolExecutor, function: Callable[[], T]) -> T:
        def call() -> T:
            try:
                return function()
            except _AWAY:
                connections.close_all()  # the next call connects anew
                raise

        return await asyncio.get_running_loop().run_in_executor(pool, call)
