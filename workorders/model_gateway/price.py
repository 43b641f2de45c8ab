"""What one model's tokens cost, tiers included. Pure."""

from decimal import ROUND_UP, Decimal
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from workorders.model_gateway.usage import Usage

_MILLION = Decimal(1_000_000)
_SMALLEST = Decimal("0.000001")


class Rates(BaseModel):
    """US dollars for a million tokens. What is left out of the cache's prices follows from `input`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Decimal = Field(ge=0)
    output: Decimal = Field(ge=0)
    cache_write: Decimal = Field(Decimal(-1))
    cache_write_1h: Decimal = Field(Decimal(-1))
    cache_read: Decimal = Field(Decimal(-1))

    @model_validator(mode="after")
    def _fill(self) -> Self:
        derived = {"cache_write": "1.25", "cache_write_1h": "2", "cache_read": "0.1"}
        for name, factor in derived.items():
            if name not in self.model_fields_set:
                object.__setattr__(self, name, self.input * Decimal(factor))
            elif getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        return self

    def of_tokens(self, usage: Usage) -> Decimal:
        tokens = (
            usage.input * self.input
            + usage.output * self.output
            + usage.cache_write * self.cache_write
            + usage.cache_write_1h * self.cache_write_1h
            + usage.cache_read * self.cache_read
        )
        return tokens / _MILLION


class Above(Rates):
    """What every token of a request costs, the first one too, whose prompt is larger than `prompt_tokens`."""

    prompt_tokens: int = Field(gt=0)


class Price(Rates):
    """A model's rates, those for large prompts, and what one web search costs."""

    web_search: Decimal = Field(Decimal("0.01"), ge=0)
    above: tuple[Above, ...] = ()

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        sizes = [tier.prompt_tokens for tier in self.above]
        if sizes != sorted(set(sizes)):
            raise ValueError("above must name growing numbers of prompt_tokens")
        return self

    def of(self, usage: Usage) -> Decimal:
        """One request's cost, rounded up to a millionth of a dollar, the database's smallest.

        `usage` is the whole request's: a part of it would be taken for a smaller prompt. The prompt is what goes
        in, from the cache or not.
        """
        prompt = usage.all_input
        rates: Rates = self
        for tier in self.above:
            if prompt > tier.prompt_tokens:
                rates = tier
        total = rates.of_tokens(usage) + usage.web_searches * self.web_search
        return total.quantize(_SMALLEST, rounding=ROUND_UP)
