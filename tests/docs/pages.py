"""The pages of the documentation as text: their fenced blocks, table rows and links."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_NAMED = re.compile(r"^\| `(?P<name>[^`]+)`", re.MULTILINE)
_HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)


class Block(msgspec.Struct, frozen=True):
    """A fenced block: its language, the words after it, its text and its line in the page."""

    language: str
    words: tuple[str, ...]
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [_block(match, text) for match in _FENCE.finditer(text)]


def _block(match: re.Match[str], text: str) -> Block:
    language, *words = match["info"].split() or [""]
    line = text.count("\n", 0, match.start()) + 1
    return Block(language, tuple(words), match["text"], line)


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def named_rows(page: Path) -> list[str]:
    """What the rows of the page's tables name: the code in their first cell, in order."""
    return _NAMED.findall(prose(page))


def row(page: Path, name: str) -> str:
    """The table row of the page that names `name`."""
    (found,) = [one for one in prose(page).splitlines() if one.startswith(f"| `{name}`")]
    return found


def links(page: Path) -> list[str]:
    """The targets of the page's links."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors that a renderer makes of the page's headings."""
    return {_anchor(heading) for heading in _HEADING.findall(prose(page))}


def _anchor(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.strip().replace(" ", "-")


def all_pages() -> list[Path]:
    """Every page that a reader may come to."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
