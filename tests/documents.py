"""The code blocks of the documentation, as somebody who follows it types them."""

import re
from textwrap import dedent

from tests.e2e.harness import ROOT

_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def blocks_of(page: str, section: str = "") -> list[str]:
    """Every block of a page, or of one section of it, in order."""
    text = (ROOT / page).read_text()
    if section:
        text = text.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return [dedent(found[3]) for found in _BLOCK.finditer(text)]
