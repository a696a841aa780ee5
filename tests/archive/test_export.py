"""The inference table, as a view and as files that other tools read."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from gateway.archive import inference
from gateway.archive.export import Format, export
from gateway.archive.inference import inference_table, whole_table
from gateway.archive.tables import ArchiveReader
from gateway.archive.writer import ArchiveWriter
from tests.archive.records import label, labels, prediction, shadow, tensor
from tests.archive.scenes import S


def _probabilities(*values: float) -> list[Any]:
    return [tensor("p", np.array([[1 - one, one] for one in values], np.float32))]


def _write(folder: Path) -> None:
    """A batch of two with a shadow and labels, a request answered by version 2, a bad one."""
    writer = ArchiveWriter(folder)
    inputs = [
        tensor("delay", np.array([-3.5, 4.0])),
        tensor("note", np.array([b"=1+1", b"ok"], object)),
    ]
    batch = prediction("a" * 32, rows=2, accepted_at_us=S, inputs=inputs,
                       outputs=_probabilities(0.25, 0.75), attributes={"group": "x"})  # fmt: skip
    writer.append("w1", 1, batch)
    writer.append("w1", 2, labels(label("a" * 32, 1.0), received_at_us=2 * S))
    writer.append("w1", 3, labels(label("a" * 32, 0.0), received_at_us=500 * S))
    writer.flush()
    score = [tensor("score", np.array([0.5, float("nan")]))]
    writer.append("s1", 1, shadow("a" * 32, rows=2, outputs=score))
    writer.append("s1", 2, shadow("a" * 32, rows=2, status="failed", started_at_us=9 * S))
    live = prediction("b" * 32, version="2", digest="d2", role="challenger", accepted_at_us=3 * S,
                      outputs=[tensor("score", np.array([0.125]))])  # fmt: skip
    writer.append("w1", 4, live)
    bad = prediction("c" * 32, version="", digest="", exclusion="undecodable",
                     status="undecodable", error="@body", accepted_at_us=4 * S)  # fmt: skip
    writer.append("w1", 5, bad)
    writer.flush()


def _exported(folder: Path, form: Format) -> bytes:
    sink = io.BytesIO()
    with ArchiveReader(folder) as reader:
        export(reader, "flights", form, sink, maturity_us=100 * S, event_time="accepted")
    return sink.getvalue()


def test_every_version_stands_beside_the_label(tmp_path: Path) -> None:
    """One row per predicted row; the first shadow run and the final label are the ones."""
    _write(tmp_path)
    rows = pq.read_table(io.BytesIO(_exported(tmp_path, "parquet"))).to_pylist()
    found = [
        (row["prediction_id"][0], row["row"], row["served_version"], row["versions.1.answered"],
         row["versions.2.answered"], row["versions.2.status"], row["label"], row["labels"])
        for row in rows
    ]  # fmt: skip
    assert found == [
        ("a", 0, "1", "live", "shadow", "ok", 1.0, 2),
        ("a", 1, "1", "live", "shadow", "ok", None, 0),
        ("b", 0, "2", None, "live", "ok", None, 0),
        ("c", 0, "", None, None, None, None, 0),
    ]
    assert [row["versions.1.outputs.p"] for row in rows[:3]] == [[0.75, 0.25], [0.25, 0.75], None]
    assert rows[0]["versions.2.outputs.score"] == 0.5
    assert rows[2]["versions.2.outputs.score"] == 0.125
    assert "versions.1.outputs.score" not in rows[0]
    assert rows[0]["label_received_at"] == datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC)


def test_the_view_and_the_export_hold_the_same_rows(tmp_path: Path) -> None:
    """The view is what the export writes, however it is cut."""
    _write(tmp_path)
    with ArchiveReader(tmp_path) as reader:
        table = inference_table(reader, "flights", maturity_us=100 * S, event_time="accepted")
        view = reader.table(
            f"SELECT * FROM {whole_table(reader, table)} ORDER BY prediction_id, row"
        )
    exported = pq.read_table(io.BytesIO(_exported(tmp_path, "parquet")))
    assert exported.schema.equals(view.schema)
    assert exported.drop(["versions.2.outputs.score"]).equals(
        view.drop(["versions.2.outputs.score"])
    )


@pytest.mark.parametrize("form", ["parquet", "csv", "ndjson"])
def test_an_export_in_parts_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Format
) -> None:
    """Parts bound the memory and leave no trace in the bytes read."""
    _write(tmp_path)
    whole = _exported(tmp_path, form)
    monkeypatch.setattr(inference, "_CHUNK_ROWS", 1)
    parts = _exported(tmp_path, form)
    if form == "parquet":
        parts, whole = (
            repr(pq.read_table(io.BytesIO(b)).to_pylist()).encode() for b in (parts, whole)
        )
    assert parts == whole


def test_csv_quotes_what_a_spreadsheet_would_run(tmp_path: Path) -> None:
    """Text that begins like a formula gets an apostrophe; a negative number stays one."""
    _write(tmp_path)
    rows = list(csv.DictReader(io.StringIO(_exported(tmp_path, "csv").decode())))
    assert [row["inputs.note"] for row in rows[:2]] == ["'=1+1", "ok"]
    assert rows[0]["inputs.delay"] == "-3.5"
    assert rows[3]["error"] == "'@body"
    assert json.loads(rows[0]["versions.1.outputs.p"]) == [0.75, 0.25]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_each_dangerous_start_is_quoted(tmp_path: Path, start: str) -> None:
    """Also in a column's name, for a model file says what its inputs are called."""
    writer = ArchiveWriter(tmp_path)
    text = np.array([f"{start}cmd".encode()], object)
    writer.append("w1", 1, prediction("a" * 32, inputs=[tensor("x", text)], client=f"{start}c"))
    writer.flush()
    (row,) = csv.DictReader(io.StringIO(_exported(tmp_path, "csv").decode(), newline=""))
    assert row["inputs.x"] == f"'{start}cmd"
    assert row["client"] == f"'{start}c"


def test_ndjson_is_json_whatever_the_numbers(tmp_path: Path) -> None:
    """NaN is null, attributes are an object, times are RFC 3339."""
    _write(tmp_path)
    rows = [json.loads(line) for line in _exported(tmp_path, "ndjson").splitlines()]
    assert rows[1]["versions.2.outputs.score"] is None
    assert rows[0]["attributes"] == {"group": "x"}
    assert rows[0]["accepted_at"] == "1970-01-01T00:00:01Z"


@pytest.mark.parametrize("form", ["parquet", "csv", "ndjson"])
def test_an_export_of_nothing_is_a_file_of_its_format(tmp_path: Path, form: Format) -> None:
    """Before the first prediction there are columns and no rows."""
    body = _exported(tmp_path, form)
    if form == "parquet":
        assert pq.read_table(io.BytesIO(body)).num_rows == 0
    assert (form == "csv") == body.startswith(b'"prediction_id"')
    assert form != "ndjson" or body == b""


def test_public_tools_read_the_export(tmp_path: Path) -> None:
    """DuckDB and pandas read types as they are."""
    _write(tmp_path / "archive")
    file = tmp_path / "flights.parquet"
    file.write_bytes(_exported(tmp_path / "archive", "parquet"))
    assert pd.read_parquet(file)["inputs.delay"].sum() == 0.5
    found = duckdb.sql(f"SELECT sum(\"inputs.delay\") FROM '{file}'").fetchall()
    assert found == [(0.5,)]
