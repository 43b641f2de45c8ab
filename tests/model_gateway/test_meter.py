"""The account of an answer that comes, and is written down, in parts."""

import asyncio
import json
from decimal import Decimal

import pytest

from tests.model_gateway.running import GRANT, MemoryLedger
from workorders.model_gateway.meter import Account
from workorders.model_gateway.prices import load_prices
from workorders.model_gateway.usage import Usage, UsageReader

MODEL = "claude-haiku-5-5"


def said(kind: str, *, speed: str = "", **usage: int) -> bytes:
    told = {**usage, **({"speed": speed} if speed else {})}
    event = {"type": kind, "usage": told, "message": {"model": MODEL, "usage": told}}
    return f"data: {json.dumps(event)}\n\n".encode()


def books_after(*pieces: bytes, model: str = MODEL) -> tuple[MemoryLedger, list[Decimal]]:
    """Each piece is written down before the next comes; the sums are what the budget saw before and after."""
    ledger, sums = MemoryLedger(), list[Decimal]()

    async def run() -> None:
        account = Account(ledger, load_prices())
        meter = account.open(GRANT, model)
        meter.reader = UsageReader(streaming=True)
        for piece in pieces:
            meter.reader.feed(piece.replace(MODEL.encode(), model.encode()))
            sums.append(account.spent(ledger.grant_now(GRANT)))
            await account.write_down(meter)
            sums.append(account.spent(ledger.grant_now(GRANT)))
        account.close(meter)
        await account.settle(5)

    asyncio.run(run())
    return ledger, sums


@pytest.mark.parametrize(
    "pieces",
    [
        (said("message_start", input_tokens=100_001), said("message_delta", output_tokens=1000)),
        # the output comes when the prompt is in the books
        (said("message_start", cache_read_input_tokens=1, input_tokens=10**5), said("message_delta", output_tokens=9)),
        # searches of the model's own make the prompt grow
        (said("message_start", input_tokens=90_000), said("message_delta", input_tokens=110_000, output_tokens=1000)),
        (said("message_start", input_tokens=100_000), said("message_delta", output_tokens=1000)),
    ],
    ids=["large", "large by the cache", "grows over the limit", "small"],
)  # fmt: skip
def test_parts_cost_what_the_whole_costs(pieces: tuple[bytes, ...]) -> None:
    ledger, sums = books_after(*pieces)
    usage = sum((item.usage for item in ledger.spendings), Usage())
    price = load_prices().price_of(MODEL)
    assert price is not None
    assert sum(item.cost_usd or 0 for item in ledger.spendings) == price.of(usage)
    assert [item.requests for item in ledger.spendings] == [1, 0]
    assert sums[0::2] == sums[1::2], "writing down moves nothing"


def test_that_it_was_fast_may_be_said_last() -> None:
    """When all tokens are in the books already."""
    ledger, _ = books_after(
        said("message_start", input_tokens=1_000_000),
        said("message_delta", input_tokens=1_000_000, speed="fast"),
        model="claude-opus-5",
    )
    assert [item.cost_usd for item in ledger.spendings] == [5, 5]
    assert [item.requests for item in ledger.spendings] == [1, 0]


def test_an_unknown_price_costs_nothing_and_is_said_once() -> None:
    ledger, sums = books_after(said("message_start", input_tokens=10), model="model-of-mine")
    assert [item.cost_usd for item in ledger.spendings] == [None]
    assert sums == [0, 0]
