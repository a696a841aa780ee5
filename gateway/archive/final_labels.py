# ruff: noqa: S608 - every name in this SQL is ours
"""The final label of each row, as SQL: the rule of `core/labels.py` over many rows at once.

The greatest (observed_at, received_at, label id) among the labels within the horizon. A
label that nobody dated was observed when it was received.
"""

from __future__ import annotations

from collections.abc import Collection

from gateway.archive.manifest import ArchiveFile
from gateway.archive.tables import ArchiveReader, overlaps
from gateway.core.registration import EventTime


def distinct_labels(labels: str) -> str:
    """SQL of the labels, each once, with `observed_us` and `received_us`.

    A label that is sent again is no later one: it keeps the time it was first received.
    """
    received = "epoch_us(l.received_at)"
    return f"""(
        SELECT l.prediction_id, l.row, l.label_id, any_value(l.label) AS label,
            any_value(l.label_text) AS label_text, min({received}) AS received_us,
            min(coalesce(epoch_us(l.observed_at), {received})) AS observed_us
        FROM {labels} AS l
        GROUP BY l.prediction_id, l.row, l.label_id
    )"""


def in_time(*, maturity_us: int, event_time: EventTime) -> str:
    """SQL of whether distinct label `l` came within the horizon of row `r`."""
    counted = "observed_us" if event_time == "client" else "received_us"
    return f"l.{counted} <= r.event_us + {maturity_us}"


def final_labels(labels: str, rows: str, *, maturity_us: int, event_time: EventTime) -> str:
    """SQL of (prediction_id, row, label, label_text, observed_us, received_us).

    `labels` are distinct ones; `rows` have prediction_id, row and event_us.
    """
    return f"""(
        SELECT prediction_id, row, final.label, final.label_text, final.observed_us,
            final.received_us
        FROM (
            SELECT l.prediction_id, l.row, max_by(
                struct_pack(label := l.label, label_text := l.label_text,
                    observed_us := l.observed_us, received_us := l.received_us),
                (l.observed_us, l.received_us, l.label_id)
            ) AS final
            FROM {labels} AS l JOIN {rows} AS r
                ON r.prediction_id = l.prediction_id AND r.row = l.row
            WHERE {in_time(maturity_us=maturity_us, event_time=event_time)}
            GROUP BY l.prediction_id, l.row
        )
    )"""


def latest_observation_us(
    reader: ArchiveReader, endpoint: str, files: Collection[ArchiveFile]
) -> int:
    """The latest `observed_at` in these label files that is about the endpoint; 0 if none is."""
    paths = {file.path for file in files}
    ids = (
        min(file.prediction_ids[0] for file in files),
        max(file.prediction_ids[1] for file in files),
    )
    labels = reader.scan("labels", "", lambda file: file.path in paths)
    predictions = reader.scan("predictions", endpoint, overlaps(ids))
    (found,) = reader.table(
        f"""SELECT coalesce(max(epoch_us(l.observed_at)), 0) AS latest
            FROM {labels} AS l SEMI JOIN {predictions} AS p ON p.prediction_id = l.prediction_id"""
    ).to_pylist()
    latest: int = found["latest"]
    return latest
