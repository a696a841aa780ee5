"""An archive of many predictions, made in seconds: as live traffic leaves it once compacted.

A prediction every ten milliseconds with ten inputs, a shadow run and a label each; all of one
registration. Written by the archive's own file writer, but not through a journal.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from gateway.archive import manifest
from gateway.archive.files import write_file
from gateway.archive.manifest import ArchiveFile, Manifest
from gateway.archive.objects import Folder
from gateway.archive.schema import FIXED, Dataset
from gateway.core.registration import Terms
from gateway.core.routes import Challenger, EndpointRules, Rollout, VersionFacts
from gateway.core.tensors import Signature, TensorSpec
from gateway.ports import Registration

ENDPOINT = "flights"
EVERY_US = 10_000
BEGAN_US = 1_700_000_000_000_000
MATURITY_S = 3600
#: A record of such a prediction takes about this much of a journal.
FRAME_BYTES = 480
_FILE_ROWS = 200_000
_WRITER, _SHADOW_WRITER = "0" * 11 + "a", "0" * 11 + "b"


def registration() -> Registration:
    """Version 2 against champion 1, open since before the first prediction."""
    terms = Terms(
        endpoint=ENDPOINT, champion_digest="1" * 64, challenger_digest="2" * 64,
        maturity_s=MATURITY_S, min_duration_s=0, error_control="each",
    )  # fmt: skip
    return Registration(
        endpoint=ENDPOINT, number=1, version="2", champion="1", terms=terms,
        digest=terms.digest(), level=0.05, opened_epoch=2, opened_at_us=BEGAN_US - 1,
    )  # fmt: skip


def rollout(opened: Registration) -> Rollout:
    """The registration's epoch: everything in shadow."""
    signature = Signature(inputs=(), outputs=(TensorSpec("p", "FP64", (-1,)),))
    versions = {
        name: VersionFacts(name, name * 64, f"{name}.onnx", signature, batches=True, inline=True)
        for name in "12"
    }
    challengers = {"2": Challenger("2", 1, opened.digest, 10_000)}
    return Rollout(
        endpoint=ENDPOINT, epoch=2, phase="shadow", champion="1", previous=None,
        split={"1": 10_000}, challengers=challengers, versions=versions,
        rules=EndpointRules(maturity_s=MATURITY_S), salt="salt",
    )  # fmt: skip


def build(folder: Path, rows: int) -> Manifest:
    """Write the archive of `rows` predictions."""
    files = [file for first in range(0, rows, _FILE_ROWS) for file in _part(folder, first, rows)]
    covered = {_WRITER: 2 * rows * FRAME_BYTES, _SHADOW_WRITER: rows * FRAME_BYTES}
    made = Manifest(sequence=len(files), covered=covered, files=tuple(files))
    manifest.swap(Folder(folder), made)
    return made


def _part(folder: Path, first: int, rows: int) -> Iterator[ArchiveFile]:
    numbers = np.arange(first, min(first + _FILE_ROWS, rows))
    at_us = BEGAN_US + numbers * EVERY_US
    random = np.random.default_rng(first)
    truth = random.random(len(numbers)) < 0.3
    for dataset, table in (
        ("predictions", _predictions(numbers, at_us, random, truth)),
        ("shadows", _shadows(numbers, at_us, random, truth)),
        ("labels", _labels(numbers, at_us, random, truth)),
    ):
        endpoint = "" if dataset == "labels" else ENDPOINT
        yield write_file(Folder(folder), dataset, endpoint, f"{first:09d}.parquet", table)  # type: ignore[arg-type]


def _predictions(numbers: Any, at_us: Any, random: Any, truth: Any) -> pa.Table:
    n = len(numbers)
    inputs = {f"inputs.x{place}": random.normal(0, 1, n).round(2) for place in range(8)}
    inputs["inputs.carrier"] = random.choice(["AA", "UA", "DL"], n)
    inputs["inputs.origin"] = random.choice(["JFK", "LGA", "EWR"], n)
    return _table(
        "predictions", n,
        prediction_id=_ids(numbers, at_us), row=0, accepted_at=at_us, epoch=2, endpoint=ENDPOINT,
        served_version="1", served_digest="1" * 64, role="champion", exclusion="", status="ok",
        error="", propensity=1.0, client="", trace_id=_hexadecimal(random, n, 32),
        span_id=_hexadecimal(random, n, 16),
        latency_us=random.integers(100, 900, n), queue_us=0, source_writer=_WRITER,
        source_end=(2 * numbers + 1) * FRAME_BYTES, **inputs,
        **{"outputs.p": _probability(random, truth, 0.2)},
    )  # fmt: skip


def _shadows(numbers: Any, at_us: Any, random: Any, truth: Any) -> pa.Table:
    n = len(numbers)
    return _table(
        "shadows", n,
        prediction_id=_ids(numbers, at_us), row=0, endpoint=ENDPOINT, registration=1, version="2",
        digest="2" * 64, status="ok", error="", shadow_probability=1.0,
        started_at=at_us + 5000, latency_us=random.integers(100, 900, n), batch_rows=64,
        source_writer=_SHADOW_WRITER, source_end=(numbers + 1) * FRAME_BYTES,
        **{"outputs.p": _probability(random, truth, 0.21)},
    )  # fmt: skip


def _labels(numbers: Any, at_us: Any, random: Any, truth: Any) -> pa.Table:
    n = len(numbers)
    return _table(
        "labels", n,
        prediction_id=_ids(numbers, at_us), row=0, label_id=_hexadecimal(random, n, 32),
        label=truth.astype(np.float64), received_at=at_us + 1_800_000_000, source="api",
        client="key", source_writer=_WRITER, source_end=(2 * numbers + 2) * FRAME_BYTES,
    )  # fmt: skip


def _probability(random: Any, truth: Any, lift: float) -> Any:
    return np.clip(0.3 + lift * truth + random.normal(0, 0.2, len(truth)), 0, 1)


def _hexadecimal(random: Any, rows: int, digits: int) -> list[str]:
    text = random.bytes(rows * digits // 2).hex()
    return [text[at : at + digits] for at in range(0, len(text), digits)]


def _ids(numbers: Any, at_us: Any) -> list[str]:
    pairs = zip(numbers.tolist(), (at_us // 1000).tolist(), strict=True)
    return [f"{at_ms:011x}{_WRITER}{number:09x}" for number, at_ms in pairs]


def _table(dataset: Dataset, rows: int, **columns: Any) -> pa.Table:
    fixed = {
        name: _column(columns.pop(name, None), kind, rows) for name, kind in FIXED[dataset].items()
    }
    return pa.table({**fixed, **{name: pa.array(column) for name, column in columns.items()}})


def _column(value: Any, kind: pa.DataType, rows: int) -> pa.Array:
    if value is None or isinstance(value, str | int | float):
        return pa.array([value] * rows, type=kind)
    return pa.array(value, type=kind)
