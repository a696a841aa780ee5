"""What a frame says of a run."""

from __future__ import annotations

from gateway.shadow.frames import shadow_record
from gateway.shadow.latencies import Pair
from gateway.shadow.running import RunResult
from gateway.shadow.tasks import Task
from tests.archive.records import prediction
from tests.archive.scenes import registration


def test_a_frame_says_all_about_its_run() -> None:
    """Source, probability and trace come from the prediction; errors are cut."""
    source = prediction("p", trace_id="t", span_id="s", sampled=True, rows=3)
    record = shadow_record(
        Task(source, "w1", 99, ("2",), 2500),
        RunResult("failed", "x" * 900, 5, 6, 7, []),
        registration=registration(), version="2", digest="d2", source_end=99, alone=Pair(8, 9),
    )  # fmt: skip
    assert (record.source_writer, record.source_end, record.registration) == ("w1", 99, 1)
    assert (record.prediction_id, record.version, record.digest) == ("p", "2", "d2")
    assert (record.rows, record.probability_bp, len(record.error)) == (3, 2500, 500)
    assert (record.status, record.started_at_us, record.latency_us) == ("failed", 5, 6)
    assert (record.trace_id, record.parent_span_id, record.sampled) == ("t", "s", True)
    assert (record.champion_alone_us, record.challenger_alone_us) == (8, 9)
