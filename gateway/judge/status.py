"""What operators can see of an endpoint: one document each, made of stored facts.

Rules: reads only. What nobody has said yet is absent or null, never 0; a challenger that
nobody judged yet is at WAIT, with that as its reason. Times are µs since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from gateway.core.routes import Challenger, Rollout
from gateway.errors import CorruptStore
from gateway.judge.acknowledgement import acknowledgement_of
from gateway.judge.audit import log_faults
from gateway.judge.documents import (
    ChallengerDocument,
    CheckpointDocument,
    DecisionsDocument,
    EvaluatorDocument,
    EvidenceDocument,
    KnownVersionDocument,
    RegistrationDocument,
    StatusDocument,
    VerdictDocument,
    VersionDocument,
    VersionsDocument,
    WorkerDocument,
)
from gateway.ports import Checkpoint, ControlStore, EvaluatorReport, Registration, WorkerReport

_Document = dict[str, Any]

_NOT_JUDGED: VerdictDocument = {
    "kind": "WAIT",
    "reasons": ["nothing has been judged yet"],
    "estimate": None,
    "n": 0,
}


def endpoint_status(
    store: ControlStore, endpoint: str, *, now_us: int, live: set[str]
) -> StatusDocument:
    """Phase, roles, split, challengers with their verdicts, workers and Evaluator."""
    rollout = store.rollout(endpoint)
    reports = store.workers()
    said = store.evaluator()
    body = _body(said)
    known = {r.number: r for r in store.registrations(endpoint)}
    return {
        "endpoint": endpoint,
        "epoch": rollout.epoch,
        "phase": rollout.phase,
        "champion": _version(rollout, rollout.champion),
        "previous": None if rollout.previous is None else _version(rollout, rollout.previous),
        "split_bp": rollout.split,
        "challengers": [
            _challenger(store, rollout, challenger, known.get(challenger.registration), body)
            for challenger in rollout.challengers.values()
        ],
        "workers": _workers(endpoint, rollout.epoch, reports, live=live, now_us=now_us),
        "evaluator": _evaluator(said, body, endpoint, now_us=now_us),
    }


def endpoint_evidence(store: ControlStore, endpoint: str) -> EvidenceDocument:
    """Every registration of the endpoint with its terms and latest checkpoint."""
    rollout = store.rollout(endpoint)
    return {
        "endpoint": endpoint,
        "epoch": rollout.epoch,
        "registrations": [
            msgspec.to_builtins(
                RegistrationDocument(
                    **msgspec.structs.asdict(registration), checkpoint=_latest(store, registration)
                )
            )
            for registration in store.registrations(endpoint)
        ],
    }


def endpoint_decisions(store: ControlStore, endpoint: str) -> DecisionsDocument:
    """The decision log, oldest first, and what is wrong with it and with what hangs on it."""
    head = store.head(endpoint)
    try:
        decisions = store.decisions(endpoint)
        faults = log_faults(store, endpoint, decisions, head)
    except CorruptStore as error:
        decisions, faults = [], [str(error)]
    if store.head(endpoint) != head:
        return endpoint_decisions(store, endpoint)  # somebody decided while it was read
    return {
        "endpoint": endpoint,
        "head": head,
        "faults": faults,
        "decisions": msgspec.to_builtins(decisions),
    }


def endpoint_versions(
    store: ControlStore, endpoint: str, *, on_disk: Iterable[str]
) -> VersionsDocument:
    """Versions that the rollout knows, and files in the repository that it does not."""
    rollout = store.rollout(endpoint)
    return {
        "endpoint": endpoint,
        "epoch": rollout.epoch,
        "versions": [
            KnownVersionDocument(**_version(rollout, version), role=_role(rollout, version))
            for version in rollout.versions
        ],
        "not_added": sorted(set(on_disk) - set(rollout.versions)),
    }


def _version(rollout: Rollout, version: str) -> VersionDocument:
    return {"version": version, "digest": rollout.versions[version].digest}


def _role(rollout: Rollout, version: str) -> str | None:
    return rollout.role(version) if version in rollout.serving() else None


def _challenger(
    store: ControlStore,
    rollout: Rollout,
    challenger: Challenger,
    registration: Registration | None,
    body: _Document,
) -> ChallengerDocument:
    document: ChallengerDocument = {
        "version": challenger.version,
        "digest": rollout.versions[challenger.version].digest,
        "registration": challenger.registration,
        "sample_bp": challenger.probability_bp,
        "split_bp": rollout.split.get(challenger.version, 0),
        "verdict": _NOT_JUDGED,
        "shadow": _said_of(body, rollout.endpoint).get("challengers", {}).get(challenger.version),
    }
    if registration is None:
        return document
    checkpoint = _latest(store, registration)
    document |= {
        "champion": registration.champion,
        "level": registration.level,
        "opened_at_us": registration.opened_at_us,
        "opened_epoch": registration.opened_epoch,
    }
    if checkpoint is not None:
        document["verdict"] = checkpoint["verdict"]
        document["judged_at_us"] = checkpoint["at_us"]
        document["cut_us"] = checkpoint["cut_us"]
        document["counts"] = checkpoint["evidence"].get("evidence", {}).get("counts")
        document["accounting"] = checkpoint["evidence"].get("accounting")
    return document


def _latest(store: ControlStore, registration: Registration) -> CheckpointDocument | None:
    found = store.checkpoints(registration.endpoint, registration.number, latest_only=True)
    return _checkpoint(found[0]) if found else None


def _checkpoint(checkpoint: Checkpoint) -> CheckpointDocument:
    return {
        "number": checkpoint.number,
        "at_us": checkpoint.at_us,
        "cut_us": checkpoint.cut_us,
        "covered": checkpoint.covered,
        "evidence": msgspec.json.decode(checkpoint.evidence),
        "verdict": msgspec.json.decode(checkpoint.verdict),
    }


def _workers(
    endpoint: str, epoch: int, reports: list[WorkerReport], *, live: set[str], now_us: int
) -> list[WorkerDocument]:
    """Every live worker, also one that has said nothing yet, and those that are gone.

    Of what is gone nothing is awaited and nothing is believed: it neither lags nor serves.
    """
    said = {report.writer_id: report for report in reports}
    lagging = acknowledgement_of(endpoint, epoch, reports=reports, live=live).lagging
    documents: list[WorkerDocument] = []
    for writer_id in sorted(live | said.keys()):
        document: WorkerDocument = {
            "writer_id": writer_id,
            "is_gone": writer_id not in live,
            "is_lagging": writer_id in lagging,
        }
        if writer_id in said:
            _say(document, said[writer_id], endpoint, now_us)
        documents.append(document)
    return documents


def _say(document: WorkerDocument, report: WorkerReport, endpoint: str, now_us: int) -> None:
    """Add what the worker last reported."""
    document["pid"] = report.pid
    document["host"] = report.host
    document["epoch"] = report.epochs.get(endpoint)
    document["loaded"] = report.loaded.get(endpoint, [])
    document["problem"] = report.problem
    document["unrecorded_rows"] = report.unrecorded_rows
    document["age_s"] = _age_s(report.at_us, now_us)


def _evaluator(
    said: EvaluatorReport | None, body: _Document, endpoint: str, *, now_us: int
) -> EvaluatorDocument | None:
    if said is None:
        return None
    sources = body.get("sources", {})
    return {
        "pid": said.pid,
        "caught_up": _said_of(body, endpoint).get("caught_up"),
        "problem": body.get("problem", ""),
        "damages": body.get("damages", []),
        "age_s": _age_s(said.at_us, now_us),
        "lag_bytes": sum(s.get("size", 0) - s.get("archived", 0) for s in sources.values()),
        "clock_us": _said_of(body, endpoint).get("clock_us"),
        "labels": _said_of(body, endpoint).get("labels"),
        "shadow_tax": _said_of(body, endpoint).get("shadow_tax"),
    }


def _body(said: EvaluatorReport | None) -> _Document:
    body = {} if said is None else msgspec.json.decode(said.body)
    return body if isinstance(body, dict) else {}


def _said_of(body: _Document, endpoint: str) -> _Document:
    return dict(body.get("endpoints", {}).get(endpoint, {}))


def _age_s(at_us: int, now_us: int) -> float:
    return round(max(0, now_us - at_us) / 1e6, 3)
