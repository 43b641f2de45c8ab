"""The price table: names, what is derived, and what has no known price."""

from decimal import Decimal
from pathlib import Path

import pytest

from workorders.model_gateway.prices import Price, PricesInvalid, load_prices
from workorders.model_gateway.usage import Usage


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("claude-sonnet-4-5", 3),
        ("claude-sonnet-4-5-20250929", 3),
        ("claude-sonnet-4-5@20250929", 3),
        ("claude-sonnet-4-20250514", 3),
        ("claude-opus-4-20250514", 15),
        ("claude-opus-4-1-20250805", 15),
        ("claude-opus-4-8", 5),
        ("us.anthropic.claude-opus-4-5-20251101-v1:0", 5),
        ("anthropic/claude-haiku-4-5", 1),
        ("claude-sonnet-5[1m]", 3),
        ("claude-3-5-haiku-latest", Decimal("0.8")),
        ("claude-opus-9", None),
        ("claude-opus-4-9", None),
        ("gpt-x", None),
        ("", None),
    ],
)
def test_the_model_of_a_name(model: str, price: Decimal | None) -> None:
    found = load_prices().price_of(model)
    assert (found.input if found else None) == price


def test_the_fast_mode_has_prices_of_its_own() -> None:
    fast = load_prices().price_of("claude-opus-4-8", fast=True)
    assert fast is not None
    assert fast.output == 50
    assert load_prices().price_of("claude-sonnet-4-5", fast=True) is None


def test_cost_is_rounded_up_to_a_millionth() -> None:
    price = Price.model_validate({"input": 3, "output": 15})
    assert (price.cache_write, price.cache_write_1h, price.cache_read) == (
        Decimal("3.75"),
        Decimal(6),
        Decimal("0.3"),
    )
    used = Usage(
        input=1000, output=100, cache_read=10_000, cache_write=200, cache_write_1h=100, web_searches=2
    )
    assert price.of(used) == Decimal("0.028850")
    assert price.of(Usage(cache_read=1)) == Decimal("0.000001")


def test_own_prices_come_over_the_shipped_ones(tmp_path: Path) -> None:
    own = tmp_path / "prices.json"
    own.write_text(
        '{"models": {"claude-sonnet-5": {"input": 1, "output": 2}, "*": {"input": 9, "output": 9}}}'
    )
    table = load_prices(own)
    for model, price in (("claude-sonnet-5-20260901", 1), ("claude-opus-4-8", 5), ("anything", 9)):
        found = table.price_of(model)
        assert found is not None
        assert found.input == price


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"models": {"a": {"input": -1, "output": 2}}}', '{"models": {"a": {"input": 1}}}',
     '{"models": {"a": {"input": 1, "output": 2, "cach_read": 1}}}',
     '{"models": {"a": {"input": 1, "output": 2, "cache_read": -1}}}'],
)  # fmt: skip
def test_a_wrong_table_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    own = tmp_path / "prices.json"
    own.write_text(text)
    with pytest.raises(PricesInvalid, match=r"prices\.json is wrong at"):
        load_prices(own)
    with pytest.raises(PricesInvalid, match="cannot be read"):
        load_prices(tmp_path / "missing.json")
