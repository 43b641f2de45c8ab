"""Remakes `workorders/model_gateway/prices.json` from the price list of the PyPI package `genai-prices` (MIT).

    PYTHONPATH=. uv run --no-project --python 3.13 --with genai-prices==0.2.3 python tests/model_gateway/make_prices.py

Takes the newest version of the package that you name, and the prices in force today, or on the day given as
argument (2026-11-30). Read the diff before you commit it: these figures decide what budgets stop. The licence beside
the file is the package's; compare it too.

The file that was written is then held against the package's own arithmetic, for every model, below, at and above
every tier. Batch prices are left out: an agent's requests are none.
"""

import json
import sys
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from workorders.model_gateway.prices import SHIPPED, PriceTable, load_prices
from workorders.model_gateway.usage import Usage

Json = dict[str, Any]
PROVIDER = "anthropic"
FAST = {"speed": "fast"}
CLAUSES = ("equals", "starts_with", "regex", "contains")
RATES = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "cache_read": "cache_read_mtok",
}
ABOUT = "Made by tests/model_gateway/make_prices.py; not to be edited by hand. prices.LICENSE is its source's licence."
UNIT = "US dollars for a million tokens; web_search: for one; above: for every token of a request with a larger prompt"

# What the source does not have. Take out what it has by now: the generator refuses to hide the source's figures.
BY_HAND_SOURCE = "list prices as Claude Code 2.1.197 computes with"
BY_HAND_DATE = "2026-11-25"
_FAST_30 = {"input": 30, "output": 150, "cache_write": 37.5, "cache_write_1h": 60, "cache_read": 3}
BY_HAND: dict[str, Json] = {
    "claude-mythos-5": {
        "match": [{"equals": "claude-mythos-5"}, {"regex": "^claude-mythos-5-\\d{8}$"}],
        "price": {"input": 10, "output": 50, "cache_write": 12.5, "cache_write_1h": 20, "cache_read": 1},
    },
    "claude-opus-4-6": {"fast": _FAST_30},
    "claude-opus-4-7": {"fast": _FAST_30},
}


def main(day: date) -> None:
    provider, version = _source()
    models = {model.id: _listed(model, day) for model in provider.models}
    entries = list(_add_by_hand(models))
    document = {
        "about": ABOUT,
        "unit": UNIT,
        "source": {
            "package": "genai-prices",
            "version": version,
            "provider": PROVIDER,
            "address": "https://github.com/pydantic/genai-prices",
            "licence": "MIT",
            "copyright": "Copyright (c) Pydantic Services Inc. 2025 to present",
        },
        "generated": day.isoformat(),
        "by_hand": {"source": BY_HAND_SOURCE, "date": BY_HAND_DATE, "entries": entries},
        "models": [{"id": name, **models[name]} for name in sorted(models)],
    }
    SHIPPED.write_text(render(document))
    print(f"{len(models)} models, {_compare(provider, day)} costs compared")


def render(document: Json) -> str:
    """The file's text: one key a line, and a model's keys a line each, so that a diff shows what changed."""
    head = [
        f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in document.items() if key != "models"
    ]
    models = [
        "  {" + ",\n   ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in model.items()) + "}"
        for model in document["models"]
    ]
    return "{\n" + "".join(head) + ' "models": [\n' + ",\n".join(models) + "\n ]\n}\n"


def _source() -> tuple[Any, str]:
    from importlib.metadata import version  # only the generator needs the package

    from genai_prices import data  # type: ignore[import-not-found]  # only this generator needs it

    return next(item for item in data.providers if item.id == PROVIDER), version("genai-prices")


# --- the source's objects as plain data ---


def _listed(model: Any, day: date) -> Json:
    listed = {"match": _rules(model.match), "price": _price(model, day, {})}
    if any(variant.when == FAST for variant in model.price_variants or ()):
        listed["fast"] = _price(model, day, FAST)
    return listed


def _rules(clause: Any) -> list[Json]:
    if hasattr(clause, "or_"):
        return [rule for part in clause.or_ for rule in _rules(part)]
    for kind in CLAUSES:
        if hasattr(clause, kind):
            return [{kind: getattr(clause, kind)}]
    raise SystemExit(f"{clause} is a rule this generator does not know.")


def _price(model: Any, day: date, context: dict[str, str]) -> Json:
    """The prices in force on that day; of several, the source takes the last."""
    conditions = model.prices if isinstance(model.prices, list) else []
    if any(hasattr(item.constraint, "start_time") for item in conditions):
        raise SystemExit(f"{model.id} has prices by the time of day, which the price list cannot say.")
    prices = model.get_prices(_noon(day), context)
    found = {ours: value for ours, its in RATES.items() if (value := getattr(prices, its)) is not None}
    price: Json = {name: _number(_base(value)) for name, value in found.items()}
    if (searches := prices.web_searches_kcount) is not None:
        price["web_search"] = _number(searches / 1000)
    starts = sorted({tier.start for value in found.values() for tier in getattr(value, "tiers", ())})
    if starts:
        price["above"] = [
            {"prompt_tokens": start, **{name: _number(_at(value, start)) for name, value in found.items()}}
            for start in starts
        ]
    return price


def _base(value: Any) -> Decimal:
    return value.base if hasattr(value, "tiers") else value  # type: ignore[no-any-return]  # the source's


def _at(value: Any, start: int) -> Decimal:
    """The price of the last tier that starts here or before."""
    return next(
        (tier.price for tier in reversed(getattr(value, "tiers", ())) if tier.start <= start), _base(value)
    )


def _number(value: Decimal) -> int | float:
    return int(value) if value == int(value) else float(value)


def _noon(day: date) -> datetime:
    return datetime.combine(day, time(12), UTC)


def _add_by_hand(models: dict[str, Json]) -> Iterable[str]:
    for name, entry in BY_HAND.items():
        model = models.setdefault(name, {})
        for key, value in entry.items():
            if key in model:
                raise SystemExit(f"The source has the {key} of {name} now: take it out of BY_HAND.")
            model[key] = value
        yield name if "match" in entry else f"{name} {' '.join(entry)}"


# --- is it the same as the source's own arithmetic ---


def _compare(provider: Any, day: date) -> int:
    load_prices.cache_clear()
    table, compared = load_prices(), 0
    for model in provider.models:
        for name in _names(model):
            found = provider.find_model(name)
            ours = table.listed.find(name)
            if found is None or ours is None or found.id != ours.id:
                raise SystemExit(f"{name} is {found and found.id} at the source and {ours and ours.id} here.")
        for fast in (False, True) if any(v.when == FAST for v in model.price_variants or ()) else (False,):
            compared += _compare_costs(table, model, day, fast=fast)
    return compared


def _names(model: Any) -> list[str]:
    return [
        model.id,
        *[text for rule in _rules(model.match) for kind, text in rule.items() if kind != "regex"],
    ]


def _compare_costs(table: PriceTable, model: Any, day: date, *, fast: bool) -> int:
    from genai_prices import Usage as TheirUsage

    prices = model.get_prices(_noon(day), FAST if fast else {})
    has_cache = prices.cache_write_mtok is not None
    price = table.price_of(_names(model)[-1], fast=fast)
    assert price is not None, model.id
    edges = {0, 1000, *[tier.prompt_tokens + more for tier in price.above for more in (-1, 0, 1, 50_000)]}
    for prompt in edges:
        read, short, long = (prompt // 2, prompt // 8, prompt // 16) if has_cache else (0, 0, 0)
        usage = Usage(prompt - read - short - long, 777, read, short, long)
        theirs = prices.calc_price(
            TheirUsage(
                input_tokens=prompt,
                output_tokens=777,
                cache_read_tokens=read,
                cache_write_tokens=short + long,
                cache_write_1h_tokens=long,
            )
        )["total_price"]
        if not 0 <= price.of(usage) - theirs < Decimal("0.000001"):
            raise SystemExit(f"{model.id}, {usage}: {theirs} at the source, {price.of(usage)} here.")
    return len(edges)


if __name__ == "__main__":
    main(date.fromisoformat(sys.argv[1]) if sys.argv[1:] else datetime.now(UTC).date())
