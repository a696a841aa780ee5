"""The page about rehearsals: its command runs as it stands, and says what the page says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.docs.pages import DOCS, blocks
from tests.rehearsing import Place, Traffic, prepared
from tests.serving_process import PATIENCE_S, environment

PAGE = DOCS / "rehearsal.md"


def test_the_command_of_the_page_runs_as_it_stands(tmp_path: Path) -> None:
    """Over a state folder of two hundred rows or so."""
    Traffic(Place(prepared(tmp_path)), requests=100)
    (block,) = [one for one in blocks(PAGE) if "test" in one.words]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=tmp_path,
        env={**environment({}), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for said in ("read", "failures", "agreement", "mean zero_one loss", "advantage", "interval"):
        assert said in done.stdout
    assert "A rehearsal cannot promote" in done.stdout
