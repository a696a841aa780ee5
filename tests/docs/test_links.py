"""Links lead somewhere, decisions are numbered, and generated parts are up to date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs import rollout_page
from tests.docs.pages import DOCS, ROOT, all_pages, anchors, blocks, links, prose


@pytest.mark.parametrize("page", all_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_internal_links_resolve(page: Path) -> None:
    """A link to a file or a heading of ours leads to one that is there."""
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link} has no such heading"


def test_every_page_can_be_reached_from_the_readme() -> None:
    """No page is an orphan; a decision is reached by its folder."""
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        seen.add(page)
        for link in links(page):
            target = (page.parent / link.partition("#")[0]).resolve()
            found = sorted(target.glob("*.md")) if target.is_dir() else [target]
            todo += [one for one in found if one.suffix == ".md" and one not in seen]
    assert set(all_pages()) <= seen


def test_decisions_are_numbered_without_gaps() -> None:
    """0001, 0002, … in the file's name and in its title."""
    pages = sorted((DOCS / "decisions").glob("*.md"))
    for number, page in enumerate(pages, start=1):
        assert re.fullmatch(rf"{number:04}-[a-z0-9-]+\.md", page.name)
        assert page.read_text(encoding="utf-8").startswith(f"# {number}. ")
    assert pages


def test_the_rollout_page_is_drawn_from_the_table() -> None:
    """Picture and table are what the generator makes of the code now."""
    text = rollout_page.PAGE.read_text(encoding="utf-8")
    drawn = text.partition(rollout_page.BEGIN)[2].partition(rollout_page.END)[0]
    assert drawn == rollout_page.generated(), "run `python -m tests.docs.rollout_page`"


@pytest.mark.parametrize("name", ["architecture.md", "decisions/0002-runtimes-below-serving.md"])
def test_the_layers_are_those_that_are_checked(name: str) -> None:
    """The pages list the layers of .importlinter, in their order."""
    contract = (ROOT / ".importlinter").read_text(encoding="utf-8")
    layers = contract.partition("layers =\n")[2].partition("\n\n")[0]
    expected = [line.strip() for line in layers.splitlines()]
    (shown,) = [block for block in blocks(DOCS / name) if block.language == "text"]
    assert shown.text.splitlines() == expected


def test_prose_fits_a_screen() -> None:
    """No line but a table's is longer than 108 characters, none ends in blanks."""
    for page in all_pages():
        for line in prose(page).splitlines():
            fits = len(line) <= 108 or line.startswith("|")
            assert fits and line == line.rstrip(), f"{page.name}: {line!r}"
