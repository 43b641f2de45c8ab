"""What templates print with: icons, times, durations, display text. Only formats; asks nobody."""

import re
import unicodedata
from datetime import datetime, timedelta

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_BIDI = dict.fromkeys([0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
STATUS_LOOKS = {
    "pending": ("clock", "secondary"),
    "running": ("loader-2", "blue"),
    "completed": ("circle-check", "green"),
    "failed": ("circle-x", "red"),
    "cancelled": ("ban", "orange"),
    "succeeded": ("circle-check", "green"),
    "no_change_needed": ("circle-check", "teal"),
    "interrupted": ("repeat", "secondary"),
}


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    """An icon of the vendored sprite; decorative unless it has a label."""
    url = static("vendor/icons/sprite.svg")
    if label:
        return format_html(
            '<svg class="icon" role="img" aria-label="{}"><use href="{}#{}"></use></svg>', label, url, name
        )
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>', url, name)


@register.simple_tag
def status_badge(status: str) -> SafeString:
    """A status as icon and word, so that colour is never the only sign."""
    name, colour = STATUS_LOOKS.get(status, ("circle-dashed", "secondary"))
    return format_html(
        '<span class="badge wo-status bg-{}-lt">{} {}</span>', colour, icon(name), status.replace("_", " ")
    )


@register.filter
def display(text: object) -> str:
    """Text of strangers, safe to look at: no ANSI, no control or bidirectional characters. Still escaped."""
    clean = _ANSI.sub("", str(text or "")).translate(_BIDI)
    return "".join(
        char for char in clean if char in "\n\t" or unicodedata.category(char) not in {"Cc", "Cs", "Co"}
    )


@register.filter
def short_sha(sha: str) -> str:
    return sha[:10]


@register.filter
def duration(value: timedelta | float | None) -> str:
    """`1 h 2 min`, `3 min 4 s`, `5 s`."""
    if value is None:
        return "–"
    seconds = int(value.total_seconds() if isinstance(value, timedelta) else value)
    hours, rest = divmod(max(seconds, 0), 3600)
    minutes, seconds = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


@register.simple_tag
def moment(when: datetime | None) -> SafeString | str:
    """A time as people say it, with the exact one for machines and on hover."""
    if when is None:
        return "–"
    text = f"{duration(timezone.now() - when)} ago"
    return format_html('<time datetime="{}" title="{:%Y-%m-%d %H:%M:%S} UTC">{}</time>', when.isoformat(), when, text)
