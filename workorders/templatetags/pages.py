"""What templates print with: icons, times, durations, display text. Only formats; asks nobody."""

from datetime import datetime, timedelta
from decimal import Decimal

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from workorders.domain.states import WAITING_WORDS, WaitingReason
from workorders.reading.tested import TestsView
from workorders.text import diff_lines, markup

register = template.Library()
_JUST_NOW = timedelta(seconds=2)

STATUS_LOOKS = {
    "pending": ("clock", "secondary"),
    "running": ("loader-2", "blue"),
    "waiting": ("clock", "yellow"),
    "completed": ("circle-check", "green"),
    "failed": ("circle-x", "red"),
    "tests_failed": ("alert-triangle", "orange"),
    "queued": ("clock", "secondary"),
    "cancelled": ("ban", "secondary"),
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


@register.simple_tag
def state_icon(state: str) -> str:
    """The favicon of a state; nothing goes on while an order is queued or waits."""
    name = "idle" if state in {"queued", "waiting"} else state
    return static(f"workorders/favicon-{name}.svg")


@register.simple_tag
def stale_tests(tests: TestsView) -> str:
    """Results that are not of what is there now: `14 passed at 77ad0ed, 1 commit ago, not tested since`."""
    return tests.words()


@register.filter
def waiting_words(reason: str) -> str:
    return WAITING_WORDS[WaitingReason(reason)]


@register.filter
def display(text: object) -> str:
    """Text of strangers, safe to look at: no ANSI, no control or bidirectional characters. Still escaped."""
    return diff_lines.plain(str(text or ""))


@register.filter
def markdown(text: str) -> SafeString:
    """A stranger's Markdown as sanitised HTML."""
    return mark_safe(markup.render_markdown(text))  # noqa: S308  # nosec B308 B703  # nh3 has cleaned it


@register.filter
def diff(patch: str, coloured: str) -> SafeString:
    """A unified diff as lines, with the syntax colours a worker made."""
    return mark_safe(markup.render_diff(patch, coloured))  # noqa: S308  # nosec B308 B703  # all is escaped


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
    """A time as people say it, with the exact one for machines and on hover; `app.js` keeps it right."""
    if when is None:
        return "–"
    passed = timezone.now() - when
    if passed < timedelta():
        return format_html("<time {}>in {}</time>", _exact(when), _in_largest_unit(-passed))
    words = f"{_in_largest_unit(passed)} ago" if passed >= _JUST_NOW else "just now"
    return format_html("<time {} data-ago>{}</time>", _exact(when), words)


@register.simple_tag
def age(when: datetime) -> SafeString:
    """How old something is."""
    passed = max(timedelta(), timezone.now() - when)
    return format_html("<time {} data-age>{}</time>", _exact(when), _in_largest_unit(passed))


def _exact(when: datetime) -> SafeString:
    return format_html('datetime="{}" title="{}"', when.isoformat(), f"{when:%Y-%m-%d %H:%M:%S} UTC")


def _in_largest_unit(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    units = ((86400, "d"), (3600, "h"), (60, "min"))
    return next((f"{seconds // size} {unit}" for size, unit in units if seconds >= size), f"{seconds} s")


@register.filter
def dollars(amount: Decimal | float) -> str:
    """`$1.25`; amounts too small for that are not shown as nothing."""
    if not amount:
        return "–"
    return f"${amount:,.2f}" if amount >= Decimal("0.01") else "<$0.01"


@register.filter
def number(value: int) -> str:
    """`12,345`."""
    return f"{value:,}"


@register.filter
def words(name: str) -> str:
    """A stored name as people write it: `git_branch` is "git branch"."""
    return name.replace("_", " ")


@register.filter
def change_word(letter: str) -> str:
    """What git's letter says of a file."""
    return {"A": "added", "D": "deleted", "M": "changed", "R": "renamed", "T": "another type"}.get(
        letter, "changed"
    )
