"""What a benchmark reports: a median against a floor measured in the same run, and the limits it should keep."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True)
class Limit:
    """`measured` should be at most `allowed`; `text` says both what and in which unit."""

    text: str
    measured: float
    allowed: float

    @property
    def holds(self) -> bool:
        return self.measured <= self.allowed

    def __str__(self) -> str:
        return f"{self.text}: {'holds' if self.holds else 'EXCEEDED'} ({self.measured:.2f})"


@dataclass(frozen=True)
class Row:
    """One measured thing. `notes` are lines for people, a breakdown for instance."""

    what: str
    values: Sequence[float]
    floor_values: Sequence[float]
    floor_is: str
    unit: str = "ms"
    limits: tuple[Limit, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def p95(self) -> float:
        return percentile(self.values, 0.95)

    @property
    def floor(self) -> float:
        return median(self.floor_values)

    @property
    def ratio(self) -> float:
        return self.median / self.floor if self.floor else math.inf


def percentile(values: Sequence[float], share: float) -> float:
    """By nearest rank: a value that was really measured."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def milliseconds(seconds: Sequence[float]) -> list[float]:
    return [value * 1000 for value in seconds]


def as_text(row: Row) -> str:
    unit = row.unit
    lines = [
        row.what,
        f"  n {len(row.values)} · median {row.median:.2f} {unit} · p95 {row.p95:.2f} {unit} · "
        f"floor {row.floor:.2f} {unit} ({row.floor_is}) · ratio {row.ratio:.3g}",
        *(f"  limit {limit}" for limit in row.limits),
        *(f"    {note}" for note in row.notes),
    ]
    return "\n".join(lines)


MARKDOWN_HEAD = "| what | n | median | p95 | floor | ratio | limit |\n|---|---|---|---|---|---|---|"


def as_markdown(row: Row) -> str:
    limits = "; ".join(str(limit) for limit in row.limits) or "–"
    numbers = (f"{value:.1f} {row.unit}" for value in (row.median, row.p95, row.floor))
    return f"| {row.what} | {len(row.values)} | {' | '.join(numbers)} | {row.ratio:.3g} | {limits} |"


def as_json(row: Row) -> str:
    return json.dumps(
        {
            "what": row.what,
            "n": len(row.values),
            "median": row.median,
            "p95": row.p95,
            "floor": row.floor,
            "floor_is": row.floor_is,
            "ratio": row.ratio,
            "unit": row.unit,
            "limits": [
                {"text": item.text, "measured": item.measured, "holds": item.holds} for item in row.limits
            ],
        }
    )
