"""The form of the shipped price list, `prices.json`, and how a model's name is found in it. Pure.

The list is made from a kept source by tests/model_gateway/make_prices.py, its rules for names included.
"""

import re
from collections.abc import Callable
from datetime import date
from functools import cached_property, lru_cache
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from workorders.model_gateway.price import Price

_STRICT = ConfigDict(frozen=True, extra="forbid")
# "claude-opus-4-1" is not the beginning of "claude-opus-4-10"; "claude-sonnet-4-2025" is one of a date.
_VERSION_AT_END = re.compile(r"(?<!\d)\d{1,2}$")


class NameRule(BaseModel):
    """Exactly one of four ways to know a name; names are compared in lower case."""

    model_config = _STRICT

    equals: str = ""
    starts_with: str = ""
    regex: str = ""
    contains: str = ""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(map(bool, (self.equals, self.starts_with, self.regex, self.contains))) != 1:
            raise ValueError("a rule has exactly one of equals, starts_with, regex, contains")
        try:
            re.compile(self.regex)
        except re.error as error:
            raise ValueError(f"{self.regex!r} is no regular expression: {error}") from error
        return self

    @property
    def rank(self) -> tuple[int, int]:
        """The larger, the more this rule says of a name."""
        if self.equals:
            return 3, len(self.equals)
        if self.regex:
            return 2, len(self.regex)
        return (1, len(self.starts_with)) if self.starts_with else (0, len(self.contains))

    def matches(self, name: str) -> bool:
        if self.equals:
            return name == self.equals.lower()
        if self.regex:
            return re.search(self.regex, name) is not None
        if self.starts_with:
            goes_on = name[len(self.starts_with) :][:1].isdigit() and _VERSION_AT_END.search(self.starts_with)
            return name.startswith(self.starts_with.lower()) and not goes_on
        return self.contains.lower() in name


class ListedModel(BaseModel):
    """One model; `fast` is the price of its fast mode, where it has one."""

    model_config = _STRICT

    id: str = Field(min_length=1)
    match: tuple[NameRule, ...] = Field(min_length=1)
    price: Price
    fast: Price | None = None


class Source(BaseModel):
    """Where the list was taken from."""

    model_config = _STRICT

    package: str
    version: str
    provider: str
    address: str
    licence: str
    copyright: str


class ByHand(BaseModel):
    """What the source does not have: which `entries` ("model", "model price", "model fast") came from elsewhere."""

    model_config = _STRICT

    source: str
    date: date
    entries: tuple[str, ...]


class PriceList(BaseModel):
    """The whole file. `generated` is the day whose prices it holds."""

    model_config = _STRICT

    about: str
    unit: str
    source: Source
    generated: date
    by_hand: ByHand
    models: tuple[ListedModel, ...] = Field(min_length=1)

    def find(self, name: str) -> ListedModel | None:
        """The model whose most telling rule knows this name, in lower case."""
        return self._find(name)

    @cached_property
    def _find(self) -> Callable[[str], ListedModel | None]:
        """Remembers some names: the gateway asks for each piece of an answer."""
        rules = [(rule, model) for model in self.models for rule in model.match]
        rules.sort(key=lambda pair: pair[0].rank, reverse=True)

        @lru_cache(maxsize=256)
        def find(name: str) -> ListedModel | None:
            return next((model for rule, model in rules if rule.matches(name)), None)

        return find

    def age_days(self, today: date) -> int:
        return (today - self.generated).days
