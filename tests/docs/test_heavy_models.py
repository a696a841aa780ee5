"""The page about heavy models: its examples are what the gateway reads."""

from __future__ import annotations

import pytest

from gateway.endpoint_file import parse_endpoint_file
from gateway.settings import load_settings
from tests.docs.pages import DOCS, blocks

PAGE = DOCS / "heavy-models.md"


def test_the_endpoint_files_of_the_page_are_read_as_they_stand() -> None:
    """Each example is a whole endpoint file."""
    examples = [block for block in blocks(PAGE) if block.language == "yaml"]
    rules = [parse_endpoint_file(one.text, source="page").rules() for one in examples]
    assert (rules[0].max_batch_rows, rules[0].max_queue_ms) == (16, 500)


def test_the_providers_of_the_page_are_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example is what the server reads."""
    (example,) = [block for block in blocks(PAGE) if block.language == "bash"]
    name, value = example.text.removeprefix("export ").strip().split("=")
    monkeypatch.setenv(name, value)
    assert load_settings().provider_names == ("cuda", "cpu")
