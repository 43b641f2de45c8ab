"""What models cost, by their names: the shipped price list and an operator's own prices on top. Pure.

A model that is in neither has no known price, which is said and never guessed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from workorders.domain.errors import WorkOrderError
from workorders.model_gateway.price import Price
from workorders.model_gateway.price_list import PriceList

SHIPPED = Path(__file__).with_name("prices.json")
ANY_MODEL = "*"
# What providers add to a model's name without changing what it is: regions, vendors, dates, context sizes.
_PREFIX = re.compile(r"^(?:[a-z]{2,6}\.)?(?:anthropic[./])?")
_SUFFIX = re.compile(r"(?:\[\w+\])?$")
_DATED = re.compile(r"(?:-latest|[-@]\d{8})?(?:-v\d+(?::\d+)?)?$")


class PricesInvalid(WorkOrderError):
    """The price table cannot be used."""

    category = "prices_invalid"
    advice = "Correct the file WORKORDERS_MODEL_PRICES names; docs/operations.md shows its form."


class _OwnFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    models: dict[str, Price]


@dataclass(frozen=True)
class PriceTable:
    """`own`: exact names; `:fast` after a name is its fast mode, `*` any model that is not named anywhere."""

    listed: PriceList
    own: Mapping[str, Price]

    def price_of(self, model: str, *, fast: bool = False) -> Price | None:
        """None where no price is known."""
        name = _SUFFIX.sub("", _PREFIX.sub("", model.strip().lower()))
        undated = _DATED.sub("", name)
        for candidate in (model, name, undated):
            if found := self.own.get(f"{candidate}:fast" if fast else candidate):
                return found
        listed = self.listed.find(name) or self.listed.find(undated)
        price = (listed.fast if fast else listed.price) if listed else None
        return price or self.own.get(ANY_MODEL)


@lru_cache(maxsize=4)
def load_prices(own: Path | None = None) -> PriceTable:
    """The shipped list with an operator's prices over it. Raises `PricesInvalid`."""
    return PriceTable(_read(SHIPPED, PriceList), _read(own, _OwnFile).models if own else {})


def _read[Form: BaseModel](path: Path, form: type[Form]) -> Form:
    try:
        return form.model_validate_json(path.read_bytes())
    except OSError as error:
        raise PricesInvalid(f"The price table {path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PricesInvalid(
            f"The price table {path} is wrong at {where or 'its start'}: {first['msg']}."
        ) from error
