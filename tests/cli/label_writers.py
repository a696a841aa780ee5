"""Files of labels as others would write them, in every format."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

Document = dict[str, Any]


def label(number: int, **fields: Any) -> Document:
    """A label of a prediction of its own."""
    return {"prediction_id": f"{number:032x}", "label": number % 2, **fields}


def write_ndjson(file: Path, labels: list[Document]) -> None:
    """One object a line."""
    file.write_text("".join(json.dumps(one) + "\n" for one in labels))


def write_csv(file: Path, labels: list[Document]) -> None:
    """The union of the fields as columns."""
    with file.open("w", newline="") as content:
        names = list(dict.fromkeys(name for one in labels for name in one))
        writer = csv.DictWriter(content, names)
        writer.writeheader()
        writer.writerows(labels)


def write_parquet(file: Path, labels: list[Document]) -> None:
    """Typed; a time is an instant, as others would write it."""
    columns = {name: [one.get(name) for one in labels] for name in labels[0]}
    if "observed_at" in columns:
        moments = [datetime.fromisoformat(text) for text in columns["observed_at"]]
        columns["observed_at"] = pa.array(moments, pa.timestamp("ns", tz="America/New_York"))
    pq.write_table(pa.table(columns), file)


def write_sagemaker(file: Path, labels: list[Document]) -> None:
    """What SageMaker's model monitor merges."""
    write_ndjson(file, [ground_truth(one["prediction_id"], str(one["label"])) for one in labels])


def ground_truth(prediction_id: str, data: str, **changed: Any) -> Document:
    """One record in SageMaker's form."""
    return {
        "groundTruthData": {"data": data, "encoding": "CSV"},
        "eventMetadata": {"eventId": prediction_id},
        "eventVersion": "0",
        **changed,
    }


WRITERS: dict[str, Callable[[Path, list[Document]], None]] = {
    "ndjson": write_ndjson,
    "csv": write_csv,
    "parquet": write_parquet,
    "jsonl": write_sagemaker,
}
