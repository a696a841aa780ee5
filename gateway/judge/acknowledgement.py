"""Which workers have heard: a change is done when every live worker serves by it.

Rules: a worker is live while it holds the lock of its journal, whatever it last reported;
a live worker that reported nothing has loaded nothing and acknowledged nothing. What a worker
said that is gone is shown for a while and counts for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import msgspec

from gateway.core.routes import Rollout
from gateway.errors import Refused
from gateway.ports import ControlStore, WorkerReport

_POLL_S = 0.01
#: How long the last word of a worker that is gone is kept, for whoever asks what became of it.
_KEEP_GONE_US = 600 * 1_000_000

LiveWorkers = Callable[[], set[str]]


class Acknowledgement(msgspec.Struct, frozen=True):
    """Ids of the workers that serve by an epoch, and of those that do not yet."""

    acknowledged: list[str]
    lagging: list[str]


def acknowledgement_of(
    endpoint: str, epoch: int, *, reports: Iterable[WorkerReport], live: set[str]
) -> Acknowledgement:
    """Where each live worker stands."""
    reached = {r.writer_id for r in reports if r.epochs.get(endpoint, 0) >= epoch}
    return Acknowledgement(acknowledged=sorted(live & reached), lagging=sorted(live - reached))


def wait_acknowledged(
    store: ControlStore, live_workers: LiveWorkers, endpoint: str, epoch: int, *, timeout_s: float
) -> Acknowledgement:
    """Poll until every live worker serves by `epoch`, or the time is over."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = acknowledgement_of(endpoint, epoch, reports=store.workers(), live=live_workers())
        if not found.lagging or time.monotonic() >= deadline:
            return found
        time.sleep(_POLL_S)


def forget_gone(store: ControlStore, live_workers: LiveWorkers, *, now_us: int) -> None:
    """Remove the reports of workers that are gone and have said nothing for ten minutes."""
    # The reports first: a worker that begins in between is then in neither.
    reports = store.workers()
    live = live_workers()
    due = [
        report.writer_id
        for report in reports
        if report.writer_id not in live and now_us - report.at_us > _KEEP_GONE_US
    ]
    if due:
        store.forget_workers(due)


def require_loaded(
    rollout: Rollout, versions: Iterable[str], *, reports: Iterable[WorkerReport], live: set[str]
) -> None:
    """Raise Refused naming the live workers that have not loaded and warmed every version."""
    said = {report.writer_id: report for report in reports}
    for version in versions:
        digest = rollout.versions[version].digest
        laggards = [w for w in sorted(live) if not _has_loaded(said.get(w), rollout, digest)]
        if laggards:
            raise Refused(
                f"version {version} is not loaded by worker {', '.join(laggards)}"
                f"{_problem(said.get(laggards[0]))}; wait, and look at `audition status`"
            )


def _has_loaded(report: WorkerReport | None, rollout: Rollout, digest: str) -> bool:
    return report is not None and digest in report.loaded.get(rollout.endpoint, [])


def _problem(report: WorkerReport | None) -> str:
    return f" ({report.problem})" if report is not None and report.problem else ""
