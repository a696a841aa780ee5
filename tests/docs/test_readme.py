"""The README is run: its server is started and its blocks are executed in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks
from tests.docs.running import environment, gateway, halves, run

README = ROOT / "README.md"


@pytest.mark.timeout(900)
def test_the_readme_does_what_it_says(tmp_path: Path) -> None:
    """Every marked block runs, in order, against the server that the README starts."""
    before, after, server = halves(README)
    run(before, tmp_path, environment())
    with gateway(server, tmp_path) as known:
        said = run(after, tmp_path, known)
    assert "promote 2" in said
    marked = [block for block in blocks(README) if "test" in block.words]
    assert len(marked) >= 8, "the README lost examples"
