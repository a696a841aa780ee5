"""The model repository on disk: versions appear whole, never change, and bad ones leave nothing."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.errors import InvalidModel, InvalidName, Refused, UnknownVersion
from gateway.runtimes.repository import ModelRepository
from tests import models


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Endpoint `demo` with version 1."""
    models.put(tmp_path / "models", "demo", "1", models.linear())
    return tmp_path / "models"


def _source(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "upload"
    path.write_bytes(content)
    return path


def _tree(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_endpoints_are_the_folders_with_versions(root: Path) -> None:
    """Empty folders, hidden ones and plain files are no endpoints, nor versions."""
    (root / "empty").mkdir()
    (root / "README.md").write_text("x")
    (root / "demo" / "endpoint.yaml").write_text("")
    models.put(root, "demo", ".new-1234", models.linear())
    models.put(root, ".hidden", "1", models.linear())
    repository = ModelRepository(root)
    assert repository.endpoints() == ["demo"]
    assert repository.versions("demo") == ["1"]
    assert ModelRepository(root / "gone").endpoints() == []


@pytest.mark.parametrize("name", ["Demo", "a b", "-a", "a..b", "a" * 64, "a\x01"])
def test_bad_names_on_disk_are_said(root: Path, name: str) -> None:
    """A folder that no route could reach is refused by its name, not passed over."""
    models.put(root, name, "1", models.linear())
    with pytest.raises(InvalidName, match="endpoint"):
        ModelRepository(root).endpoints()
    models.put(root, "demo", name, models.linear())
    with pytest.raises(InvalidName, match="version"):
        ModelRepository(root).versions("demo")


def test_a_version_without_a_file_is_unknown(root: Path) -> None:
    """The message says which file is missing."""
    with pytest.raises(UnknownVersion, match=r"demo/9/model\.onnx"):
        ModelRepository(root).facts("demo", "9")


@pytest.mark.parametrize("name", ["..", "../2", "a/b", "/etc", "2\n", "", "a" * 64])
def test_names_cannot_leave_the_repository(tmp_path: Path, root: Path, name: str) -> None:
    """Endpoint and version are checked before a path is made of them."""
    before = _tree(tmp_path)
    upload = _source(tmp_path, models.linear())
    repository = ModelRepository(root)
    for endpoint, version in (("demo", name), (name, "1")):
        with pytest.raises(InvalidName):
            repository.add(endpoint, version, upload)
        with pytest.raises(InvalidName):
            repository.facts(endpoint, version)
    assert _tree(tmp_path) - before == {"upload"}


def test_an_added_version_is_read_back_bit_for_bit(tmp_path: Path, root: Path) -> None:
    """Its facts are those of the file, and its path is relative to the repository."""
    content = models.constant()
    repository = ModelRepository(root)
    facts = repository.add("demo", "2", _source(tmp_path, content))
    assert facts.path == "demo/2/model.onnx"
    assert repository.read(facts) == (content, root / "demo" / "2")
    assert repository.facts("demo", "2") == facts
    assert repository.versions("demo") == ["1", "2"]


def test_the_same_file_may_be_added_twice(tmp_path: Path, root: Path) -> None:
    """Sending a version again changes nothing; another file under its name is refused."""
    repository = ModelRepository(root)
    upload = _source(tmp_path, models.linear())
    assert repository.add("demo", "1", upload) == repository.facts("demo", "1")
    with pytest.raises(Refused, match="version 1 exists and versions are immutable"):
        repository.add("demo", "1", _source(tmp_path, models.constant()))
    assert repository.read(repository.facts("demo", "1"))[0] == models.linear()


def test_of_two_that_add_at_once_one_wins_and_the_other_is_told(tmp_path: Path, root: Path) -> None:
    """The version is one of the two files, whole, and the loser gets a refusal, not a crash."""
    files = [models.constant(0.25), models.constant(0.75)]
    uploads = [tmp_path / f"upload{n}" for n in range(2)]
    for upload, content in zip(uploads, files, strict=True):
        upload.write_bytes(content)
    repository = ModelRepository(root)

    def add(upload: Path) -> str:
        try:
            return repository.add("demo", "2", upload).digest
        except Refused as refused:
            return str(refused)

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(add, uploads))
    facts = repository.facts("demo", "2")
    assert sorted(outcome == facts.digest for outcome in outcomes) == [False, True]
    assert any("versions are immutable" in outcome for outcome in outcomes)
    assert not [name for name in _tree(root) if ".new-" in name]


def test_a_bad_file_leaves_nothing_behind(tmp_path: Path, root: Path) -> None:
    """Neither for an endpoint that is there nor for one that would be new."""
    before = _tree(root)
    upload = _source(tmp_path, models.linear()[:40])
    for endpoint in ("demo", "new"):
        with pytest.raises(InvalidModel):
            ModelRepository(root).add(endpoint, "2", upload)
    assert _tree(root) == before


def test_a_model_whose_data_lies_elsewhere_cannot_be_uploaded(tmp_path: Path, root: Path) -> None:
    """An upload is one file; what stood beside it on another machine is missing here."""
    models.weights_file(tmp_path / "w.bin")
    with pytest.raises(InvalidModel, match=r"'w\.bin' is missing"):
        ModelRepository(root).add("demo", "2", _source(tmp_path, models.external("w.bin")))


def test_a_file_that_is_gone_is_an_invalid_model(root: Path) -> None:
    """A worker that is to load it gets a reason, not an OSError."""
    facts = models.facts_in(root, "demo", "1", models.linear())
    shutil.rmtree(root / "demo" / "1")
    with pytest.raises(InvalidModel, match=r"demo/1/model\.onnx cannot be read"):
        ModelRepository(root).read(facts)
