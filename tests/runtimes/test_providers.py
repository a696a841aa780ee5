"""What models run on: as asked, or on the CPU where that is allowed, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import InvalidModel
from gateway.runtimes.onnx import OnnxModel, open_session
from gateway.runtimes.providers import provider_of, unavailable
from gateway.runtimes.repository import ModelRepository
from tests import models


def _loaded(folder: Path, *providers: str) -> OnnxModel:
    facts = models.facts_in(folder, "demo", "1", models.linear())
    content, home = ModelRepository(folder).read(facts)
    return OnnxModel(facts, content, folder=home, providers=providers)


def test_a_list_that_ends_in_cpu_falls_back_and_says_so(tmp_path: Path) -> None:
    """The model knows what it really runs on, and answers."""
    model = _loaded(tmp_path, "cuda", "cpu")
    assert model.provider == "cpu"
    assert model.run({"x": models.ramp(1, 3)})["y"].tolist() == [8.0]


def test_a_list_without_cpu_has_no_fallback(tmp_path: Path) -> None:
    """An operator who demands a device gets it or nothing."""
    with pytest.raises(InvalidModel, match=r"cuda is asked for.*onnxruntime-gpu"):
        _loaded(tmp_path, "cuda")


def test_a_session_that_ended_on_the_cpu_unasked_is_refused() -> None:
    """A build may have a provider that the machine cannot use; onnxruntime does not tell."""
    session = open_session(models.linear())
    assert provider_of(session, ("cuda", "cpu")) == "cpu"
    with pytest.raises(InvalidModel, match="cuda is asked for and cannot be used"):
        provider_of(session, ("cuda",))


def test_what_is_there_is_no_complaint() -> None:
    """The CPU always is."""
    assert unavailable(("cpu",)) == ""
