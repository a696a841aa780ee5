"""The examples of docs/api.md are run, as they stand there, against a gateway."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pages import DOCS, blocks
from tests.docs.test_readme import _as_shell, _environment, _run
from tests.serving_process import start_server
from tests.synthetic_models import constant, write_endpoint


def test_the_examples_of_the_api_do_what_they_say(tmp_path: Path) -> None:
    """The document is fetched, read and obeyed."""
    marked = [block for block in blocks(DOCS / "api.md") if "test" in block.words]
    write_endpoint(tmp_path / "models", "demo", {"1": constant(0.5)})
    server = start_server(tmp_path, tmp_path / "models", workers=1)
    try:
        given = {"AUDITION_URL": server.url, "AUDITION_KEY": server.admin_key}
        said = _run("".join(map(_as_shell, marked)), tmp_path, {**_environment(), **given})
    finally:
        server.stop()
    assert "\nPOST /v1/labels label 400 401 403 " in said
    assert "allow: GET, HEAD, POST, OPTIONS" in said
