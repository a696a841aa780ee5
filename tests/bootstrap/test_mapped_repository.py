"""A version is what its file and its section say together, from the moment it is known."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.bootstrap.mapped_repository import (
    MappedRepository,
    read_endpoint_file,
    require_known_mappings,
)
from gateway.core.routes import Rollout
from gateway.errors import InvalidSetting
from gateway.runtimes.repository import ModelRepository
from tests import models
from tests.rollouts import solo

RENAMED = "versions: {1: {inputs: {x: features}}}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Endpoint `demo` with version 1."""
    models.put(tmp_path / "models", "demo", "1", models.linear())
    return tmp_path / "models"


def _describe(root: Path, text: str) -> Path:
    path = root / "demo" / "endpoint.yaml"
    path.write_text(text)
    return path


def test_a_version_is_seen_through_its_section(root: Path) -> None:
    """Without one it is its file."""
    files = ModelRepository(root)
    repository = MappedRepository(files)
    assert repository.facts("demo", "1") == files.facts("demo", "1")
    _describe(root, RENAMED)
    facts = repository.facts("demo", "1")
    assert facts.signature.inputs[0].name == "features"
    assert facts.unmapped() == files.facts("demo", "1")
    assert repository.versions("demo") == ["1"]


def test_a_file_that_does_not_fit_is_not_added(root: Path, tmp_path: Path) -> None:
    """The refusal names the endpoint file, and nothing is left behind."""
    path = _describe(root, "versions: {2: {inputs: {y: features}}}")
    upload = tmp_path / "upload"
    upload.write_bytes(models.constant())
    with pytest.raises(InvalidSetting) as refused:
        MappedRepository(ModelRepository(root)).add("demo", "2", upload)
    assert str(refused.value).startswith(f"{path}: versions.2.inputs.y: the model has no such")
    assert ModelRepository(root).versions("demo") == ["1"]
    _describe(root, "versions: {2: {inputs: {x: features}}}")
    added = MappedRepository(ModelRepository(root)).add("demo", "2", upload)
    assert added.signature.inputs[0].name == "features"
    assert ModelRepository(root).versions("demo") == ["1", "2"]


def _known(root: Path) -> Rollout:
    facts = MappedRepository(ModelRepository(root)).facts("demo", "1")
    return msgspec.structs.replace(solo(versions=("1",)), versions={"1": facts})


def test_a_known_version_keeps_its_mapping(root: Path) -> None:
    """Another mapping is another version; what changes nothing may be said later."""
    rollout = _known(root)
    path = _describe(root, "inputs: {x: {datatype: FP32, columns: [a, b, c]}}")
    require_known_mappings(read_endpoint_file(path), path, rollout)
    path = _describe(root, RENAMED)
    with pytest.raises(InvalidSetting, match=r"endpoint\.yaml: versions\.1: .*immutable"):
        require_known_mappings(read_endpoint_file(path), path, rollout)
    require_known_mappings(read_endpoint_file(path), path, _known(root))
