"""Which format a file has, and its rows."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Literal

import msgspec

from gateway.cli.label_files.lines import begins_as_sagemaker, ndjson_rows, sagemaker_rows
from gateway.cli.label_files.rows import Row, scalar
from gateway.cli.label_files.tables import csv_rows
from gateway.cli.session import usage_error


class Format(StrEnum):
    """How a file holds its labels."""

    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"
    SAGEMAKER = "sagemaker"


class LabelFile(msgspec.Struct):
    """A file that is about to be read; `place` is what its rows' numbers count."""

    place: Literal["line", "row"]
    rows: Iterator[Row]


def format_of(file: Path) -> Format:
    """By the extension; `.jsonl` is SageMaker's if its first line is. Raises usage errors."""
    suffix = file.suffix.lower()
    if suffix == ".jsonl":
        return Format.SAGEMAKER if begins_as_sagemaker(file) else Format.NDJSON
    by_suffix = {f".{form}": form for form in (Format.NDJSON, Format.CSV, Format.PARQUET)}
    if suffix not in by_suffix:
        raise usage_error(f"{file.name} ends in none of .jsonl, {', '.join(by_suffix)}: --format?")
    return by_suffix[suffix]


def open_labels(file: Path, form: Format, *, text_labels: bool) -> LabelFile:
    """Begin to read. `text_labels`: where a format has no types, a label is always a text.

    Usage errors about what the file holds are raised while its rows are read.
    """
    if text_labels and form not in (Format.CSV, Format.SAGEMAKER):
        raise usage_error(f"--text-labels is for CSV and SageMaker; labels in {form} have types")
    label = str if text_labels else scalar
    match form:
        case Format.NDJSON:
            return LabelFile("line", ndjson_rows(file))
        case Format.SAGEMAKER:
            return LabelFile("line", sagemaker_rows(file, label))
        case Format.CSV:
            return LabelFile("line", csv_rows(file, label))
        case Format.PARQUET:
            from gateway.cli.label_files.parquet import parquet_rows  # noqa: PLC0415

            return LabelFile("row", parquet_rows(file))
