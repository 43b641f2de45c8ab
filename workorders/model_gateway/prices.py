"""What tokens cost, as data: the shipped table and an operator's own on top. Pure.

A model that is in neither has no known price, which is said and never guessed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from functools import lru_cache
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from workorders.errors import WorkOrderError
from workorders.model_gateway.usage import Usage

SHIPPED = Path(__file__).with_name("prices.json")
ANY_MODEL = "*"
_MILLION = Decimal(1_000_000)
_SMALLEST = Decimal("0.000001")
# What providers add to a model's name without changing what it is: regions, vendors, dates, context sizes.
_PREFIX = re.compile(r"^(?:[a-z]{2,6}\.)?(?:anthropic[./])?")
_SUFFIX = re.compile(r"(?:\[\w+\])?$")
_DATED = re.compile(r"(?:-latest|[-@]\d{8})?(?:-v\d+(?::\d+)?)?$")


class PricesInvalid(WorkOrderError):
    """The price table cannot be used."""

    category = "prices_invalid"
    advice = "Correct the file WORKORDERS_MODEL_PRICES names; docs/operations.md shows its form."


class Price(BaseModel):
    """US dollars for a million tokens. What is left out of the cache's prices follows from `input`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Decimal = Field(ge=0)
    output: Decimal = Field(ge=0)
    cache_write: Decimal = Field(Decimal(-1))
    cache_write_1h: Decimal = Field(Decimal(-1))
    cache_read: Decimal = Field(Decimal(-1))
    web_search: Decimal = Field(Decimal("0.01"), ge=0, description="one search")

    @model_validator(mode="after")
    def _fill(self) -> Self:
        derived = {"cache_write": "1.25", "cache_write_1h": "2", "cache_read": "0.1"}
        for name, factor in derived.items():
            if name not in self.model_fields_set:
                object.__setattr__(self, name, self.input * Decimal(factor))
            elif getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        return self

    def of(self, usage: Usage) -> Decimal:
        """Rounded up to a millionth of a dollar, the database's smallest."""
        tokens = (
            usage.input * self.input
            + usage.output * self.output
            + usage.cache_write * self.cache_write
            + usage.cache_write_1h * self.cache_write_1h
            + usage.cache_read * self.cache_read
        )
        total = tokens / _MILLION + usage.web_searches * self.web_search
        return total.quantize(_SMALLEST, rounding=ROUND_UP)


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    models: dict[str, Price]


@dataclass(frozen=True)
class PriceTable:
    """Prices by model name; `:fast` after a name is its fast mode, `*` any model not named."""

    models: Mapping[str, Price]

    def price_of(self, model: str, *, fast: bool = False) -> Price | None:
        """None where no price is known."""
        name = _SUFFIX.sub("", _PREFIX.sub("", model.strip().lower()))
        for candidate in (model, name, _DATED.sub("", name)):
            found = self.models.get(f"{candidate}:fast" if fast else candidate)
            if found is not None:
                return found
        return self.models.get(ANY_MODEL)


@lru_cache(maxsize=4)
def load_prices(own: Path | None = None) -> PriceTable:
    """The shipped table with an operator's entries over it. Raises `PricesInvalid`."""
    models = _read(SHIPPED)
    return PriceTable({**models, **(_read(own) if own else {})})


def _read(path: Path) -> dict[str, Price]:
    try:
        return _File.model_validate_json(path.read_bytes()).models
    except OSError as error:
        raise PricesInvalid(f"The price table {path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PricesInvalid(
            f"The price table {path} is wrong at {where or 'its start'}: {first['msg']}."
        ) from error
