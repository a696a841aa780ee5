# ruff: noqa: S608 - every name and text in this SQL goes through `quoted` or `literal`
"""Books, label books and label-free reports of everything that is open, kept up as rows come.

Rules: what is said is of one moment of the archive and whole, or it is not said: while an
account is behind, the last whole word stands. What one registration's outputs cannot be read
as takes away its own label-free report and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from gateway.archive.books import (
    Books,
    LabelBooks,
    label_books_of,
    label_counts,
    prediction_endpoints,
    state_counts,
)
from gateway.archive.comparisons import STATES, Scope, compared_rows, prediction_rows
from gateway.archive.excerpt import Table
from gateway.archive.ledger import Account, Count, Ledger, advance
from gateway.archive.manifest import Manifest
from gateway.archive.tables import ArchiveReader, Rows
from gateway.core.routes import Rollout
from gateway.errors import InvalidSetting
from gateway.judge.label_free import LabelFreeReport, label_free_counts, report_of
from gateway.ports import Registration

Key = tuple[str, int]
_US_PER_S = 1_000_000


class Accounts:
    """What became of every row and label, by registration and endpoint."""

    def __init__(self, reader: ArchiveReader, folder: Path) -> None:
        self._reader = reader
        self._ledger = Ledger(folder)
        self.books: dict[Key, Books] = {}
        self.label_free: dict[Key, LabelFreeReport] = {}
        self.labels: dict[str, LabelBooks] = {}

    def advance(self, scopes: Iterable[Scope], rollouts: Mapping[str, Rollout]) -> bool:
        """Take a bounded number of new rows into account; whether there are more.

        The rollouts of `scopes` must have been read after the reader's manifest: an epoch
        that is in the archive must be among them.
        """
        names, more = set(), False
        for scope in scopes:
            names.add(_name(scope.registration))
            more = self._registration(scope) or more
        for endpoint, rollout in rollouts.items():
            names.add(f"labels {endpoint}")
            more = self._endpoint(endpoint, rollout) or more
        self._ledger.save(names)
        return more

    def _registration(self, scope: Scope) -> bool:
        registration, manifest = scope.registration, self._reader.manifest
        # Runs before requests: what comes with both is then counted once, and not as pending.
        tables: list[Table] = [
            ("shadows", registration.endpoint),
            ("predictions", registration.endpoint),
        ]
        basis, name = registration.digest, _name(registration)
        account = self._ledger.account(name, basis=basis, covered=manifest.covered)
        if self._is_behind(account, tables, partial(self._counts_of, scope)):
            return True
        key = (registration.endpoint, registration.number)
        states = {state: account.counts.get(f"state.{state}", 0) for state in STATES}
        self.books[key] = Books(journalled=_journalled(manifest, registration), **states)
        self.label_free.pop(key, None)
        if not account.counts.get("unreadable"):
            self.label_free[key] = report_of(account.counts)
        return False

    def _endpoint(self, endpoint: str, rollout: Rollout) -> bool:
        rules, manifest = rollout.rules, self._reader.manifest
        endpoints = sorted({endpoint, *prediction_endpoints(manifest)})

        def count(source: Rows) -> Counter[str]:
            if not self._has_rows(source, ("labels", "")):
                return Counter()
            return label_counts(
                self._reader, source, endpoint, endpoints,
                maturity_us=rules.maturity_s * _US_PER_S, event_time=rules.event_time,
            )  # fmt: skip

        tables: list[Table] = [("labels", ""), *(("predictions", name) for name in endpoints)]
        # What retention takes away is no longer counted, and cannot be subtracted.
        basis = f"{rules.maturity_s} {rules.event_time} {manifest.let_go}"
        account = self._ledger.account(f"labels {endpoint}", basis=basis, covered=manifest.covered)
        if self._is_behind(account, tables, count):
            return True
        self.labels[endpoint] = label_books_of(account.counts)
        return False

    def _is_behind(self, account: Account, tables: list[Table], count: Count) -> bool:
        return advance(self._reader, account, tables, count)

    def _counts_of(self, scope: Scope, source: Rows) -> Counter[str]:
        if not self._has_rows(source, ("predictions", scope.registration.endpoint)):
            return Counter()
        rows = compared_rows(source, scope, prediction_rows(source, scope))
        self._reader.keep_as("counted", f"SELECT * FROM {rows}")
        states = state_counts(self._reader, "counted")
        counts = Counter({f"state.{state}": rows for state, rows in states.items()})
        try:
            counts.update(label_free_counts(self._reader, source, scope, "counted"))
        except InvalidSetting:
            counts["unreadable"] = 1
        return counts

    def _has_rows(self, source: Rows, table: Table) -> bool:
        return bool(self._reader.table(f"SELECT 1 FROM {source.scan(*table)} LIMIT 1").num_rows)


def _journalled(manifest: Manifest, registration: Registration) -> int:
    """Rows of the registration's epochs, as the manifest has them: a count of its own."""
    until = registration.closed_epoch
    return sum(
        rows
        for file in manifest.files
        if file.dataset == "predictions" and file.endpoint == registration.endpoint
        for epoch, rows in file.epochs.items()
        if epoch >= registration.opened_epoch and (until is None or epoch < until)
    )


def _name(registration: Registration) -> str:
    return f"registration {registration.endpoint}/{registration.number}"
