"""The examples of docs/api.md are run, as they stand there, against a gateway."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pages import DOCS, blocks
from tests.docs.running import as_shell, environment, run
from tests.serving_process import start_server
from tests.synthetic_models import constant, write_endpoint


def test_the_examples_of_the_api_do_what_they_say(tmp_path: Path) -> None:
    """The document is fetched, read and obeyed."""
    page = DOCS / "api.md"
    script = "".join(as_shell(page, block) for block in blocks(page) if "test" in block.words)
    write_endpoint(tmp_path / "models", "demo", {"1": constant(0.5)})
    server = start_server(tmp_path, tmp_path / "models", workers=1)
    try:
        given = {"AUDITION_URL": server.url, "AUDITION_KEY": server.admin_key}
        said = run(script, tmp_path, {**environment(), **given})
    finally:
        server.stop()
    assert "\nPOST /v1/labels label 400 401 403 " in said
    assert "allow: GET, HEAD, POST, OPTIONS" in said
