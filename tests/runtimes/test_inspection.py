"""Model files that somebody hands us: what is learned of good ones, and why others are refused."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.core.tensors import TensorSpec
from gateway.errors import InvalidModel
from gateway.runtimes.inspection import Inspection, facts_of, inspect_file, inspect_files
from tests import models

Write = Callable[[bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Puts a model file into a folder of its own."""

    def to_file(content: bytes) -> Path:
        folder = tmp_path / "1"
        folder.mkdir(exist_ok=True)
        (folder / "model.onnx").write_bytes(content)
        return folder / "model.onnx"

    return to_file


def _refusals(tmp_path: Path, contents: dict[str, bytes], *, deadline_s: float) -> dict[str, str]:
    """Why each file is refused."""
    paths = {name: tmp_path / f"{name}.onnx" for name in contents}
    for name, path in paths.items():
        path.write_bytes(contents[name])
    refused = inspect_files(list(paths.values()), deadline_s=deadline_s)
    assert all(isinstance(one, InvalidModel) for one in refused)
    return dict(zip(paths, map(str, refused), strict=True))


def test_a_good_model_is_known_by_its_digest_and_signature(write: Write) -> None:
    """Name, datatype and shape of every input and output, -1 where the file leaves it open."""
    content = models.pair()
    found = inspect_file(write(content))
    assert found == Inspection(
        digest=sha256(content).hexdigest(),
        signature=found.signature,
        batches=True,
        inline=True,
    )
    assert found.signature.inputs == (
        TensorSpec("a", "FP32", (-1,)),
        TensorSpec("b", "FP32", (-1,)),
    )
    assert found.signature.output_names == ("total", "product")


def test_each_of_many_files_is_inspected_for_itself(tmp_path: Path) -> None:
    """One that never ends, one that is killed and one that is none stop no other's inspection."""
    contents = [
        models.linear(),
        models.loop(),
        models.pair(),
        models.huge(),
        b"no model",
        models.identity("INT8"),
    ]
    paths = [tmp_path / f"{index}.onnx" for index in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    found = inspect_files(paths, deadline_s=10)
    digests = [one.digest if isinstance(one, Inspection) else "" for one in found]
    good = [sha256(contents[at]).hexdigest() for at in (0, 2, 5)]
    assert digests == [good[0], "", good[1], "", "", good[2]]
    for at, said in ((1, "longer than 10 s"), (3, "memory"), (4, "no ONNX model")):
        assert str(found[at]).startswith(f"{at}.onnx: ") and said in str(found[at])
    assert inspect_files([]) == []


def test_rows_that_depend_on_each_other_are_never_batched(write: Write) -> None:
    """A dynamic first dimension is a promise; three rows together and alone are the proof."""
    assert not inspect_file(write(models.looks_across_rows())).batches


def test_a_fixed_first_dimension_is_no_batch(write: Write) -> None:
    """A model that was exported for one row is served one row at a time."""
    assert not inspect_file(write(models.one_row_only())).batches


def test_control_flow_keeps_a_model_off_the_event_loop(write: Write) -> None:
    """How long a loop runs depends on the input, so no measurement can bound it."""
    assert not inspect_file(write(models.loop(rounds=3))).inline


def test_files_that_are_no_model_are_refused(tmp_path: Path) -> None:
    """Truncated, empty, random and gzip files are told apart from models and said to be none."""
    good = models.linear()
    noise = random.Random(5).randbytes(2000)
    files = {
        "empty": b"",
        "truncated": good[: len(good) // 2],
        "random": noise,
        "gzip": gzip.compress(good),
    }
    refusals = _refusals(tmp_path, files, deadline_s=60)
    assert "empty" in refusals["empty"]
    for name in ("truncated", "random", "gzip"):
        assert "no ONNX model" in refusals[name] or "cannot load" in refusals[name], name


def test_outputs_that_no_tensor_can_carry_are_refused(tmp_path: Path) -> None:
    """Sequences and maps are refused with the output's name and what to export instead."""
    files = {"sequence": models.sequence_output(), "map": models.map_output()}
    for refusal in _refusals(tmp_path, files, deadline_s=60).values():
        assert "output y has type" in refusal
        assert "options={'zipmap': False}" in refusal


def test_a_small_file_that_asks_for_huge_memory_is_refused(write: Write) -> None:
    """Also where dimension 0 is fixed, so that nothing is ever batched."""
    with pytest.raises(InvalidModel, match="8 GiB of memory"):
        inspect_file(write(models.huge()))


def test_a_model_that_never_ends_is_refused_at_its_deadline(tmp_path: Path) -> None:
    """With dynamic rows or one fixed row, the child is killed and the file is blamed."""
    files = {"rows": models.loop(), "fixed": models.loop(shape=(1, 3))}
    for refusal in _refusals(tmp_path, files, deadline_s=5).values():
        assert "took longer than 5 s" in refusal


def test_external_data_outside_the_folder_is_refused(tmp_path: Path) -> None:
    """Absolute and climbing places, wherever in the graph they are hidden."""
    secret = str(models.weights_file(tmp_path / "secret"))
    files = {
        "absolute": models.external(secret),
        "climbing": models.external("../secret"),
        "climbing_inside": models.external("a/../../secret"),
        "branch": models.external_in_branch("../secret"),
        "sparse": models.external_sparse("../secret"),
    }
    for name, refusal in _refusals(tmp_path, files, deadline_s=60).items():
        assert "outside the model's folder" in refusal, name


def test_external_data_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """Symbolic links, also of a folder on the way, and hard links; and data that is not there."""
    secret = models.weights_file(tmp_path / "secret")
    (tmp_path / "elsewhere").mkdir()
    models.weights_file(tmp_path / "elsewhere" / "w.bin")
    (tmp_path / "symbolic.bin").symlink_to(secret)
    (tmp_path / "folder").symlink_to(tmp_path / "elsewhere")
    os.link(secret, tmp_path / "hard.bin")
    files = {
        "symbolic": models.external("symbolic.bin"),
        "on_the_way": models.external("folder/w.bin"),
        "hard": models.external("hard.bin"),
        "missing": models.external("gone.bin"),
        "nameless": models.external(""),
    }
    refusals = _refusals(tmp_path, files, deadline_s=60)
    assert "is a symbolic link" in refusals["symbolic"]
    assert "is a symbolic link" in refusals["on_the_way"]
    assert "is a hard link" in refusals["hard"]
    assert "is missing" in refusals["missing"]
    assert "is missing" in refusals["nameless"]


def test_external_data_beside_the_model_is_served(tmp_path: Path) -> None:
    """A plain file in the version's own folder is read, and the model computes with it."""
    path = models.put(tmp_path, "demo", "1", models.external("w.bin"))
    models.weights_file(path.parent / "w.bin")
    facts = facts_of(path, version="1", relative_to=tmp_path)
    assert facts.batches
    feed = {"x": models.ramp(2, 3)}
    assert models.loaded(tmp_path, facts).run(feed)["y"].tolist() == [8.0, 26.0]


def test_weights_outside_the_file_are_part_of_the_version(tmp_path: Path) -> None:
    """They cannot change under the same digest, and neither can they be gone."""
    path = models.put(tmp_path, "demo", "1", models.external("w.bin"))
    weights = path.parent / "w.bin"
    models.weights_file(weights)
    facts = facts_of(path, version="1", relative_to=tmp_path)
    assert facts.external == ("w.bin",)
    weights.write_bytes(bytes(len(weights.read_bytes())))
    with pytest.raises(InvalidModel, match="versions are immutable"):
        models.loaded(tmp_path, facts)
    assert facts_of(path, version="1", relative_to=tmp_path).digest != facts.digest
    weights.unlink()
    with pytest.raises(InvalidModel, match="weights cannot be read"):
        models.loaded(tmp_path, facts)
