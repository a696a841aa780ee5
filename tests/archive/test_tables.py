"""Reading the archive back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gateway.archive.schema import widened
from gateway.archive.tables import ArchiveReader, overlaps, values
from gateway.archive.writer import ArchiveWriter
from gateway.core.split import is_sampled
from tests.archive.records import prediction, shadow, tensor


def test_an_empty_archive_has_no_rows(tmp_path: Path) -> None:
    """Before the first flush the columns are there and nothing is in them."""
    with ArchiveReader(tmp_path) as reader:
        table = reader.table(f"SELECT * FROM {reader.scan('predictions', 'flights')}")
    assert table.num_rows == 0
    assert "prediction_id" in table.column_names


def test_a_reader_sees_what_was_flushed_before_its_refresh(tmp_path: Path) -> None:
    """What is written meanwhile waits for the next refresh."""
    writer = ArchiveWriter(tmp_path)
    with ArchiveReader(tmp_path) as reader:
        writer.append("w1", 1, prediction("p1"))
        writer.flush()
        count = "SELECT count(*) AS n FROM {}"
        assert (
            reader.table(count.format(reader.scan("predictions", "flights")))["n"][0].as_py() == 0
        )
        reader.refresh()
        assert (
            reader.table(count.format(reader.scan("predictions", "flights")))["n"][0].as_py() == 1
        )


def test_columns_are_united_by_name_and_widened(tmp_path: Path) -> None:
    """Versions differ in outputs: absent is NULL, and one value beside a list is a list."""
    writer = ArchiveWriter(tmp_path)
    outputs = [
        [tensor("p", np.array([0.25], np.float32))],
        [tensor("p", np.array([[0.25, 0.75]]))],
        [tensor("label", np.array([3], np.int32))],
        [tensor("label", np.array([b"late"], object))],
        [tensor("label", np.array([b"\xff"], object))],
    ]
    for end, tensors in enumerate(outputs, start=1):
        writer.append("s", end, shadow(f"p{end}", outputs=tensors))
        writer.flush()
    with ArchiveReader(tmp_path) as reader:
        rows = reader.table(
            f'SELECT "outputs.p" AS p, "outputs.label" AS label '
            f"FROM {reader.scan('shadows', 'flights')} ORDER BY prediction_id"
        ).to_pylist()
    assert [row["p"] for row in rows] == [[0.25], [0.25, 0.75], None, None, None]
    assert [row["label"] for row in rows] == [None, None, b"3", b"late", b"\xff"]


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("FLOAT", "DOUBLE", "DOUBLE"),
        ("INTEGER", "UINTEGER", "BIGINT"),
        ("BIGINT", "UBIGINT", "DOUBLE"),
        ("BOOLEAN", "FLOAT[]", "DOUBLE[]"),
        ("BIGINT[]", "BIGINT", "BIGINT[]"),
        ("VARCHAR", "BLOB[]", "BLOB[]"),
        ("VARCHAR", "DOUBLE", "VARCHAR"),
    ],
)
def test_a_widened_type_holds_both(one: str, other: str, both: str) -> None:
    """And it does not matter which file came first."""
    assert widened(one, other) == widened(other, one) == both


def test_files_that_hold_nothing_asked_for_are_not_read(tmp_path: Path) -> None:
    """A deleted file outside the range does no harm, because it is never opened."""
    writer = ArchiveWriter(tmp_path)
    for end, one in enumerate(("a", "b", "c"), start=1):
        writer.append("w1", end, prediction(one))
        writer.flush()
    with ArchiveReader(tmp_path) as reader:
        first, *_ = reader.files("predictions", "flights")
        (tmp_path / first.path).unlink()
        scan = reader.scan("predictions", "flights", overlaps(("b", "bz")))
        assert reader.table(f"SELECT prediction_id AS p FROM {scan}").to_pylist() == [{"p": "b"}]


def test_a_query_that_outgrows_its_memory_goes_on(tmp_path: Path) -> None:
    """It spills into a folder of its own, and leaves nothing behind."""
    with ArchiveReader(tmp_path, memory_limit_mb=20) as reader:
        query = (
            "SELECT count(*) AS n FROM (SELECT x::VARCHAR AS t FROM range(2000000) r(x) ORDER BY t)"
        )
        distinct = (
            "SELECT count(*) AS n FROM (SELECT DISTINCT (x * 7)::VARCHAR FROM range(1000000) r(x))"
        )
        assert reader.table(query)["n"][0].as_py() == 2_000_000
        assert reader.table(distinct)["n"][0].as_py() == 1_000_000
    assert list(tmp_path.iterdir()) == []


def test_names_and_texts_cannot_leave_their_quotes(tmp_path: Path) -> None:
    """A tensor may be called anything."""
    name = 'x"; DROP TABLE a; --'
    writer = ArchiveWriter(tmp_path)
    writer.append("w1", 1, prediction("p1", inputs=[tensor(name, np.array([1.0]))]))
    writer.flush()
    with ArchiveReader(tmp_path) as reader:
        table = reader.table(f"SELECT * FROM {reader.scan('predictions', 'flights')}")
        assert table[f"inputs.{name}"].to_pylist() == [1.0]
        rows = values([("it's", 1)], {"a": "VARCHAR", "b": "INTEGER"})
        quotes = reader.table(f"SELECT * FROM {rows}")
    assert quotes.to_pylist() == [{"a": "it's", "b": 1}]


def test_sampling_in_sql_is_the_sampling_of_the_gateway(tmp_path: Path) -> None:
    """The same hash, or the books could not balance."""
    key = "00" * 32
    ids = [f"{n:032x}" for n in range(500)]
    rows = values([(one,) for one in ids], {"p": "VARCHAR"})
    with ArchiveReader(tmp_path) as reader:
        table = reader.table(f"SELECT p, is_sampled(p, '{key}', 3000) AS sampled FROM {rows}")
    expected = {one: is_sampled(one, key=bytes.fromhex(key), probability_bp=3000) for one in ids}
    assert dict(zip(table["p"].to_pylist(), table["sampled"].to_pylist(), strict=True)) == expected
    assert 0 < sum(expected.values()) < 500
