"""Prices: the shipped list, names, large prompts, what is derived, and what has no known price."""

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.model_gateway.make_prices import render
from workorders.model_gateway.price import Price
from workorders.model_gateway.price_list import NameRule, PriceList
from workorders.model_gateway.prices import SHIPPED, PricesInvalid, load_prices
from workorders.model_gateway.usage import Usage

HAIKU = "claude-haiku-5-5"


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
        ("claude-sonnet-4-0", 3),
        ("claude-opus-4", 15),
        ("vertex/claude-opus-4", None),
        ("claude-sonnet-5[1m]", 2),
        ("claude-sonnet-5@20260301", 2),
        ("us.anthropic.claude-sonnet-5-20260301-v1:0[1m]", 2),
        ("Claude-Sonnet-5-latest", 2),
        ("claude-opus-5", 5),
        ("claude-opus-5-20260801", 5),
        ("claude-opus-5-5", 4),
        ("claude-opus-5.5", 4),
        ("claude-opus-5-5@20261001", 4),
        ("eu.anthropic.claude-opus-5-5-v1:0", 4),
        ("claude-fable-5", 10),
        ("claude-fable-5-2", 8),
        ("claude-mythos-5-20260601", 10),
        ("claude-3-5-haiku-latest", Decimal("0.8")),
        ("anthropic.claude-v2:1", 8),
        ("claude-opus-9", None),
        ("claude-opus-4-9", None),
        ("claude-opus-4-10", None),
        ("claude-haiku-4-51", None),
        ("claude-opus-5-1", None),
        ("claude-fable-5-3", None),
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
    for model, output in (("claude-opus-4-7", 150), ("claude-opus-5-5[1m]", 40), ("claude-fable-5-2", 80)):
        found = load_prices().price_of(model, fast=True)
        assert found is not None
        assert found.output == output
    assert load_prices().price_of("claude-sonnet-4-5", fast=True) is None


# --- the shipped list ---


def shipped() -> PriceList:
    return load_prices().listed


def test_the_list_is_as_the_generator_writes_it() -> None:
    """By its form, for there is no network here; an edit by hand would not keep it, or not survive the next one."""
    text = SHIPPED.read_text()
    assert render(json.loads(text)) == text
    found = shipped()
    ids = [model.id for model in found.models]
    assert ids == sorted(set(ids))
    assert (found.source.package, found.source.licence) == ("genai-prices", "MIT")
    assert found.source.copyright in SHIPPED.with_name("prices.LICENSE").read_text()
    assert found.by_hand.date <= found.generated


def test_what_is_from_elsewhere_is_named() -> None:
    models = {model.id: model for model in shipped().models}
    for entry in shipped().by_hand.entries:
        name, _, part = entry.partition(" ")
        assert not part or getattr(models[name], part) is not None


def test_every_model_is_found_by_its_own_name_and_rules() -> None:
    for model in shipped().models:
        named = {
            text for rule in model.match for text in (rule.equals, rule.starts_with, rule.contains) if text
        }
        for name in {model.id, *named}:
            assert shipped().find(name) is model, name


def test_a_larger_prompt_is_never_cheaper() -> None:
    """So the cost of the largest prompt a request may have is the most that it may cost."""
    tiered = [model for model in shipped().models if model.price.above]
    assert {model.id for model in tiered} >= {HAIKU}
    for model in tiered:
        for lower, higher in zip((model.price, *model.price.above), model.price.above, strict=False):
            for rate in ("input", "output", "cache_write", "cache_write_1h", "cache_read"):
                assert getattr(higher, rate) >= getattr(lower, rate) > 0


def test_the_age_of_the_list() -> None:
    made = shipped().generated
    assert shipped().age_days(made) == 0
    assert (
        PriceList.model_copy(shipped(), update={"generated": date(2026, 1, 1)}).age_days(date(2026, 5, 1))
        == 120
    )


@pytest.mark.parametrize(
    ("rules", "name", "winner"),
    [
        ([{"starts_with": "m-1"}, {"equals": "m-1-x"}], "m-1-x", 1),
        ([{"regex": "^m-1-x$"}, {"starts_with": "m-1-x"}], "m-1-x", 0),
        ([{"contains": "m-1-x"}, {"starts_with": "m"}], "m-1-x", 1),
        ([{"starts_with": "m-1"}, {"starts_with": "m-1-x"}], "m-1-x", 1),
        ([{"starts_with": "M-1"}], "m-1-x", 0),
        ([{"starts_with": "m-1"}], "m-12", None),
        ([{"starts_with": "m-1-2025"}], "m-1-20250514", 0),
        ([{"contains": "x"}], "m", None),
    ],
)
def test_the_rule_that_says_most_wins(rules: list[dict[str, str]], name: str, winner: int | None) -> None:
    price = {"input": 1, "output": 1}
    models = [{"id": str(n), "match": [rule], "price": price} for n, rule in enumerate(rules)]
    found = changed(models=models).find(name)
    assert (found.id if found else None) == (None if winner is None else str(winner))


def changed(**values: Any) -> PriceList:
    return PriceList.model_validate_json(json.dumps({**json.loads(SHIPPED.read_text()), **values}))


@pytest.mark.parametrize(
    "rule", [{}, {"equals": "a", "contains": "b"}, {"regex": "("}, {"ends_with": "a"}], ids=str
)
def test_a_rule_is_one_of_four(rule: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        NameRule.model_validate(rule)


@pytest.mark.parametrize("values", [{"models": []}, {"generated": "soon"}, {"more": 1}], ids=str)
def test_a_list_of_another_form_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        changed(**values)


# --- large prompts ---


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(input=100_000), "0.01"),
        (Usage(input=100_001), "0.050001"),
        (Usage(input=1, cache_read=100_000), "0.005001"),
        (Usage(input=1, cache_read=99_999), "0.001001"),
        (Usage(cache_write=50_000, cache_write_1h=50_001), "0.081251"),
        (Usage(input=100_001, output=1_000_000), "2.550001"),
        (Usage(input=100_000, output=1_000_000), "0.51"),
        (Usage(output=1_000_000), "0.5"),
        (Usage(input=100_001, web_searches=1), "0.060001"),
    ],
    ids=str,
)
def test_a_large_prompt_makes_every_token_dearer(usage: Usage, cost: str) -> None:
    price = load_prices().price_of(HAIKU)
    assert price is not None
    assert price.of(usage) == Decimal(cost)


def test_the_last_tier_that_is_passed_counts() -> None:
    tiers = [{"prompt_tokens": size, "input": rate, "output": rate} for size, rate in ((10, 2), (20, 3))]
    price = Price.model_validate({"input": 1, "output": 1, "above": tiers})
    costs = [price.of(Usage(input=prompt)) * 1_000_000 / prompt for prompt in (10, 11, 20, 21)]
    assert costs == [1, 2, 2, 3]


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


def test_an_own_price_replaces_the_tiers_too(tmp_path: Path) -> None:
    own = tmp_path / "prices.json"
    flat = {"input": 1, "output": 2}
    own.write_text(
        json.dumps({"models": {HAIKU: flat, "mine": {**flat, "above": [{"prompt_tokens": 9, **flat}]}}})
    )
    price = load_prices(own).price_of(f"us.anthropic.{HAIKU}-20261001-v1:0")
    assert price is not None
    assert price.of(Usage(input=1_000_000)) == 1
    mine = load_prices(own).price_of("mine")
    assert mine is not None
    assert mine.above[0].cache_read == Decimal("0.1")


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
     '{"models": {"a": {"input": 1, "output": 2, "cache_read": -1}}}',
     '{"models": {"a": {"input": 1, "output": 2, "above": [{"prompt_tokens": 0, "input": 1, "output": 2}]}}}',
     '{"models": {"a": {"input": 1, "output": 2, "above": [{"prompt_tokens": 9, "input": 1, "output": 2},'
     ' {"prompt_tokens": 9, "input": 1, "output": 2}]}}}'],
)  # fmt: skip
def test_a_wrong_table_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    own = tmp_path / "prices.json"
    own.write_text(text)
    with pytest.raises(PricesInvalid, match=r"prices\.json is wrong at"):
        load_prices(own)
    with pytest.raises(PricesInvalid, match="cannot be read"):
        load_prices(tmp_path / "missing.json")
