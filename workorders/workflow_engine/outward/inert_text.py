"""Words of agents and strangers in a Markdown text of ours: readable as they are, and without any effect on it.

Pure. They notify nobody, close no issue, begin no heading, and neither hide nor forge what stands around them. What
would have an effect gets an invisible character (U+200B), so that code among them reads as it was written.
"""

import re

_GAP = "\u200b"
_MENTION = re.compile(r"(?<![A-Za-z0-9])(?:@|&#0*64;|&#x0*40;|&commat;)(?=[A-Za-z0-9])", re.IGNORECASE)
_CLOSING = re.compile(
    r"\b(close[sd]?|fix(?:e[sd])?|resolve[sd]?)(\s*:?\s*)(?=(?:[\w.-]+/[\w.-]+)?#\d|GH-\d|https?://)",
    re.IGNORECASE,
)
# What CommonMark takes as the beginning of a tag, comment, instruction, declaration or CDATA section.
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])")
# A heading, the line under one, or an alert, also inside of quotes and lists.
_STRUCTURE = re.compile(
    r"^(?P<lead>(?:[ \t]|>|[-*+][ \t]|\d{1,9}[.)][ \t])*)(?P<mark>#{1,6}(?=[ \t]|$)|=+[ \t]*$|-+[ \t]*$|\[(?=!))"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_RUNS = re.compile("`+|~+")
_LONGEST_RUN = 100


def harmless(text: str) -> str:
    """It notifies nobody and closes no other issue.

    Backticks protect nobody: an unclosed one is no code. Where it is code, an invisible character is added.
    """
    return _CLOSING.sub(rf"\1\2{_GAP}", _MENTION.sub(f"@{_GAP}", text))


def inert(text: str) -> str:
    """`harmless`, and no HTML in it is HTML."""
    return _MARKUP.sub(f"<{_GAP}", harmless(text))


def quoted(text: str) -> str:
    """As a block quote, whose Markdown still works but for headings, alerts and HTML."""
    return "\n".join(f"> {_flat(line)}".rstrip() for line in inert(text).splitlines())


def _flat(line: str) -> str:
    found = _STRUCTURE.match(line)
    if found is None:
        return line
    mark = found["mark"]
    gapped = f"{mark}{_GAP}" if mark == "[" else f"{_GAP}{mark}"
    return f"{found['lead']}{gapped}{line[found.end() :]}"


def fenced(markdown: str) -> str:
    """As a code block whose fence is longer than any in it, so that nothing in it can close it."""
    text = _CONTROL.sub("\ufffd", inert(markdown).replace("\r\n", "\n").replace("\r", "\n"))
    text = _RUNS.sub(lambda run: run[0][:_LONGEST_RUN], text)
    fence = "`" * max(4, 1 + max((len(run[0]) for run in _RUNS.finditer(text)), default=0))
    return f"{fence}markdown\n{text}\n{fence}"
