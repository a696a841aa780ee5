# ruff: noqa: S608 - every name and text in this SQL goes through `quoted`, `literal` or `values`
"""The rows of one registration: what each of its two versions answered, and what became of it.

Rules: versions are known by their digest, never by who was asked first. A row is wanted if
the keyed hash says so, which no answer and no label can change. The first shadow run of a
version counts; a later one of the same row is the same run, written again after a crash.

    ineligible   excluded when it was accepted: undecodable, pinned, overload, not captured
    unsampled    the challenger's shadow was not to see it
    pending      an answer of one of the two versions is still owed
    expired      the journal let it go before both versions had seen it
    refused      it lacks an input that one of the two versions reads
    timed_out, failed   how the challenger's run ended
    compared     the challenger answered (the champion's failures are among these)
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.archive.schema import literal, quoted
from gateway.archive.tables import Keep, Rows, every, values
from gateway.core.routes import Rollout
from gateway.core.split import WHOLE_BP
from gateway.ports import Registration

STATES = (
    "ineligible", "unsampled", "compared", "failed", "timed_out", "refused", "expired", "pending",
)  # fmt: skip


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """A registration, the rollouts of its epochs, and how far each journal may be read.

    `rollouts` are by epoch; a row of an epoch that is not among them is wanted and pending.
    `covered` None means all that is in the archive. It bounds predictions and labels; a
    shadow run follows from its prediction, so whether it is there yet is all there is to it.
    """

    registration: Registration
    rollouts: Mapping[int, Rollout]
    covered: Mapping[str, int] | None = None

    @property
    def event_us(self) -> str:
        """SQL of a prediction's time on the endpoint's clock."""
        client = self.registration.terms.event_time == "client"
        return f"epoch_us({'occurred_at' if client else 'accepted_at'})"

    def output_of(self, version: str) -> str:
        """The archive's column that holds the prediction of `version`."""
        named = self.registration.terms.prediction.output_of(version)
        if named is None:
            facts = self.rollouts[self.registration.opened_epoch].versions[version]
            named = facts.signature.output_names[0]
        return f"outputs.{named}"

    def readable(self, alias: str) -> str:
        """An SQL join that leaves what lies beyond `covered` out."""
        if self.covered is None:
            return ""
        ends = values(self.covered.items(), {"writer": "VARCHAR", "upto": "BIGINT"})
        return (
            f"JOIN {ends} AS readable ON readable.writer = {alias}.source_writer "
            f"AND {alias}.source_end <= readable.upto"
        )


def prediction_rows(source: Rows, scope: Scope, *, where: str = "true", keep: Keep = every) -> str:
    """SQL of the rows accepted under the registration, each with its `standing`."""
    registration, kind = scope.registration, output_type(source, scope)
    champion, challenger = _digests(registration)
    until = registration.closed_epoch
    types = source.types("predictions", registration.endpoint)
    live = [
        f"WHEN p.served_digest = {digest} THEN {_output(types, scope.output_of(version), kind)}"
        for digest, version in (
            (champion, registration.champion),
            (challenger, registration.version),
        )
    ]
    return f"""(
        SELECT p.prediction_id, p.row, p.entity, p.served_digest, p.status, p.latency_us,
            p.source_writer, p.source_end, {scope.event_us} AS event_us,
            CASE
                WHEN p.exclusion <> '' THEN 'ineligible'
                WHEN coalesce(c.probability_bp, {WHOLE_BP}) >= {WHOLE_BP} THEN 'wanted'
                WHEN is_sampled(p.prediction_id, {literal(registration.digest)}, c.probability_bp)
                    THEN 'wanted'
                ELSE 'unsampled'
            END AS standing,
            CASE {" ".join(live)} END AS output
        FROM {source.scan("predictions", registration.endpoint, keep)} AS p
        LEFT JOIN {_coverage(scope)} AS c ON c.epoch = p.epoch
        {scope.readable("p")}
        WHERE p.epoch >= {registration.opened_epoch}
            AND {"true" if until is None else f"p.epoch < {until}"} AND {where}
    )"""


def compared_rows(source: Rows, scope: Scope, rows: str, keep: Keep = every) -> str:
    """SQL that puts both versions' answers beside `rows` (those of `prediction_rows`).

    `keep` leaves out shadow files that hold none of these rows.
    """
    champion, challenger = _digests(scope.registration)
    columns = ", ".join(
        f"CASE WHEN r.served_digest = {digest} THEN r.{column} ELSE a.{role}.{column} END "
        f"AS {role}_{column}"
        for role, digest in (("champion", champion), ("challenger", challenger))
        for column in ("status", "latency_us", "output")
    )
    return f"""(
        SELECT *, {_STATE} AS state FROM (
            SELECT r.* EXCLUDE (status, latency_us, output), {columns}
            FROM {rows} AS r LEFT JOIN {_shadow_answers(source, scope, keep)} AS a
                ON a.prediction_id = r.prediction_id AND a.row = r.row
        )
    )"""


def output_type(source: Rows, scope: Scope) -> str:
    """The SQL type that both versions' predictions are read as: text, or a list of numbers."""
    registration = scope.registration
    names = (scope.output_of(registration.champion), scope.output_of(registration.version))
    predictions = source.types("predictions", registration.endpoint)
    shadows = source.types("shadows", registration.endpoint)
    found = [types.get(name, "DOUBLE") for types in (predictions, shadows) for name in names]
    return "VARCHAR" if any(kind in ("VARCHAR", "BLOB") for kind in found) else "DOUBLE[]"


_STATE = """CASE
    WHEN standing <> 'wanted' THEN standing
    WHEN champion_status IS NULL OR challenger_status IS NULL THEN 'pending'
    WHEN 'expired' IN (champion_status, challenger_status) THEN 'expired'
    WHEN 'refused' IN (champion_status, challenger_status) THEN 'refused'
    WHEN challenger_status = 'timed_out' THEN 'timed_out'
    WHEN challenger_status <> 'ok' THEN 'failed'
    ELSE 'compared'
END"""


def _shadow_answers(source: Rows, scope: Scope, keep: Keep) -> str:
    registration, kind = scope.registration, output_type(source, scope)
    champion, challenger = _digests(registration)
    types = source.types("shadows", registration.endpoint)
    answers = ", ".join(
        f"min_by(struct_pack(status := s.status, latency_us := s.latency_us, "
        f"output := {_output(types, scope.output_of(version), kind)}), "
        f"(s.started_at, s.source_writer, s.source_end)) "
        f"FILTER (s.digest = {digest}) AS {role}"
        for role, digest, version in (
            ("champion", champion, registration.champion),
            ("challenger", challenger, registration.version),
        )
    )
    return f"""(
        SELECT s.prediction_id, s.row, {answers}
        FROM {source.scan("shadows", registration.endpoint, keep)} AS s
        WHERE s.digest = {champion}
            OR (s.digest = {challenger} AND s.registration = {registration.number})
        GROUP BY s.prediction_id, s.row
    )"""


def _digests(registration: Registration) -> tuple[str, str]:
    terms = registration.terms
    return literal(terms.champion_digest), literal(terms.challenger_digest)


def _coverage(scope: Scope) -> str:
    """By epoch, the share of predictions that the challenger's shadow is to see."""
    registration = scope.registration
    shares = []
    for epoch, rollout in scope.rollouts.items():
        challenger = rollout.challengers.get(registration.version)
        is_ours = challenger is not None and challenger.registration == registration.number
        shares.append((epoch, challenger.probability_bp if challenger and is_ours else 0))
    return values(shares, {"epoch": "BIGINT", "probability_bp": "BIGINT"})


def _output(types: dict[str, str], column: str, kind: str) -> str:
    """SQL of a prediction as `kind`; NULL where the archive has no such column."""
    found = types.get(column)
    if found is None:
        return f"NULL::{kind}"
    if kind == "VARCHAR" or found.endswith("[]"):
        return f"{quoted(column)}::{kind}"
    return f"CASE WHEN {quoted(column)} IS NULL THEN NULL ELSE [{quoted(column)}::DOUBLE] END"
