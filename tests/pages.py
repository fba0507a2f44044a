"""The blocks of code in README and docs, each with the kind that says how a test runs it."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?:<!-- (?:run: (?P<kind>[\w .]+)|(?P<made>[\w-]+)) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)```", re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A block; `kind` is empty if nothing stands before it."""

    page: str
    kind: str
    language: str
    code: str


def blocks(*kinds: str, page: str = "") -> list[Block]:
    """All blocks of some kinds (default: of all), in the order of the pages."""
    found = [
        Block(path.name, match["kind"] or match["made"] or "", match["language"], match["code"])
        for path in PAGES
        for match in BLOCK.finditer(path.read_text("utf-8"))
    ]
    return [each for each in found if (not kinds or each.kind in kinds) and page in ("", each.page)]
