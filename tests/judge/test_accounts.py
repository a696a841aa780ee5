"""The accounts, kept up as rows come, against a full recount."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.archive import ledger
from gateway.archive.books import books, label_books
from gateway.archive.comparisons import Scope
from gateway.archive.tables import ArchiveReader
from gateway.archive.writer import ArchiveWriter
from gateway.core.routes import Rollout
from gateway.judge.accounts import Accounts
from gateway.judge.label_free import label_free_report
from tests.archive.records import label, labels, prediction, shadow, tensor
from tests.archive.scenes import OPENED, S, closed, registration, rollouts, scope

MATURITY_S = 86_400


class Kept:
    """Accounts over an archive, and what a recount says."""

    def __init__(self, folder: Path, one: Scope | None = None) -> None:
        self.folder = folder
        self.scope = one or scope()
        self.reader = ArchiveReader(folder)
        self.accounts = Accounts(self.reader, folder)

    @property
    def rollouts(self) -> dict[str, Rollout]:
        return {"flights": self.scope.rollouts[OPENED]}

    def advance(self) -> int:
        """Until there is no more; in how many pieces."""
        self.reader.refresh()
        pieces = 1
        while self.accounts.advance([self.scope], self.rollouts):
            pieces += 1
        return pieces

    def require_recount(self) -> None:
        """What is kept is what is counted anew."""
        self.advance()
        kept = self.accounts
        assert kept.books["flights", 1] == books(self.reader, self.scope)
        assert kept.books["flights", 1].balanced
        assert kept.label_free["flights", 1] == label_free_report(self.reader, self.scope)
        assert kept.labels["flights"] == label_books(
            self.reader, "flights", maturity_us=MATURITY_S * S, event_time="accepted"
        )


_OUTPUT = st.sampled_from([0.1, 0.4, 0.6, 0.9])
_STEP = st.one_of(
    st.tuples(st.just("prediction"), st.integers(0, 5), st.integers(0, 2), st.integers(1, 3),
              st.sampled_from(["", "pinned"]), st.booleans(), _OUTPUT),
    st.tuples(st.just("shadow"), st.integers(0, 5), st.sampled_from(["1", "2"]),
              st.sampled_from(["ok", "failed", "refused", "expired"]), st.integers(0, 5), _OUTPUT,
              st.sampled_from([None, 10, 1000])),
    st.tuples(st.just("label"), st.integers(0, 5), st.integers(0, 1), st.integers(0, 3),
              st.sampled_from([0, 10**12])),
    st.sampled_from([("flush",), ("advance",), ("compact",), ("restart",), ("lose",)]),
    st.just(("advance",)),
)  # fmt: skip


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(_STEP, min_size=8, max_size=25), st.sampled_from([0, 5000, 10_000]), st.integers(4, 40)
)
def test_what_is_kept_equals_a_recount(drawn: list[Any], share: int, window: int) -> None:
    """Whatever comes in whatever order, in pieces of any size, over restarts and merges."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patched:
        patched.setattr(ledger, "WINDOW_BYTES", window)
        folder = Path(name)
        opened = registration()
        scoped = scope(opened, rollouts=rollouts(opened, 10_000, share, 0))
        writer, kept = ArchiveWriter(folder), Kept(folder, scoped)
        for end, step in enumerate(drawn, start=1):
            _do(writer, kept, end, step)
            if step[0] in ("restart", "lose"):
                if step[0] == "lose":
                    (folder / ledger.NAME).write_bytes(b"{")
                kept = Kept(folder, scoped)
        writer.flush()
        kept.require_recount()


def _do(writer: ArchiveWriter, kept: Kept, end: int, step: Any) -> None:
    if step[0] == "prediction":
        _, number, epoch, rows, exclusion, live, p = step
        served = {"version": "2", "digest": "d2"} if live else {}
        writer.append(f"w{number % 2}", end, prediction(
            f"{number:032x}-{end}" if number == 5 else f"{number:032x}", epoch=OPENED + epoch,
            rows=rows, exclusion=exclusion, outputs=[tensor("p", np.full(rows, p))], **served,
        ))  # fmt: skip
    elif step[0] == "shadow":
        _, number, version, status, at, p, alone = step
        outputs = [tensor("p", np.array([p]))] if status == "ok" else []
        writer.append("s", end, shadow(
            f"{number:032x}", version=version, digest=f"d{version}", status=status,
            started_at_us=at, outputs=outputs, champion_alone_us=alone, challenger_alone_us=alone,
        ))  # fmt: skip
    elif step[0] == "label":
        _, number, row, value, received = step
        row_label = label(f"{number:032x}", float(value), row=row)
        writer.append(f"w{end % 2}", end, labels(row_label, received_at_us=received))
    elif step[0] == "flush":
        writer.flush()
    elif step[0] == "compact":
        writer.compact(at_least=2, at_us=0)
    elif step[0] == "advance":
        writer.flush()
        kept.require_recount()


def _fill(folder: Path, count: int) -> ArchiveWriter:
    writer = ArchiveWriter(folder)
    for number in range(1, count + 1):
        writer.append("w", 2 * number - 1, prediction(f"{number:032x}", accepted_at_us=number))
        writer.append("s", number, shadow(f"{number:032x}"))
        writer.append("w", 2 * number, labels(label(f"{number:032x}", 1.0)))
        writer.flush()
    return writer


def test_a_restart_goes_on_where_the_ledger_was(tmp_path: Path) -> None:
    """Nothing is counted anew; not even files that were merged meanwhile."""
    writer = _fill(tmp_path, 3)
    Kept(tmp_path).require_recount()
    writer.compact(at_least=2, at_us=0)
    again = Kept(tmp_path)
    counted: list[object] = []
    again.accounts._counts_of = lambda *given: counted.append(given)  # type: ignore[assignment]
    again.advance()
    assert counted == []
    assert again.accounts.books["flights", 1].compared == 3


def test_an_account_that_the_archive_contradicts_is_begun_again(tmp_path: Path) -> None:
    """An archive from a backup ends earlier; what was counted beyond it is forgotten."""
    _fill(tmp_path, 3)
    Kept(tmp_path).require_recount()
    for path in tmp_path.rglob("*.parquet"):
        path.unlink()
    (tmp_path / "manifest.json").unlink()
    _fill(tmp_path, 2)
    Kept(tmp_path).require_recount()


def test_labels_that_retention_took_are_counted_no_more(tmp_path: Path) -> None:
    """The label books are of what is there."""
    writer = _fill(tmp_path, 3)
    kept = Kept(tmp_path)
    kept.require_recount()
    assert kept.accounts.labels["flights"].matched == 3
    gone = writer.manifest.files[0].path
    writer.let_go(lambda file: file.path == gone, at_us=0)
    kept.advance()
    assert kept.accounts.labels["flights"].matched == 2
    assert kept.accounts.labels["flights"].parked == 1


def test_nothing_is_said_before_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an account is behind, there are no books of it."""
    monkeypatch.setattr(ledger, "WINDOW_BYTES", 1)
    _fill(tmp_path, 3)
    kept = Kept(tmp_path)
    assert kept.accounts.advance([kept.scope], kept.rollouts)
    assert kept.accounts.books == {}
    assert kept.advance() > 1
    kept.require_recount()


def test_outputs_that_cannot_be_read_take_only_their_report(tmp_path: Path) -> None:
    """The books are there, the label-free report is not."""
    writer = ArchiveWriter(tmp_path)
    wide = [tensor("p", np.array([[0.1, 0.2, 0.7]]))]
    writer.append("w", 1, prediction("a" * 32, outputs=wide))
    writer.append("s", 1, shadow("a" * 32, outputs=wide))
    writer.flush()
    kept = Kept(tmp_path)
    kept.advance()
    assert kept.accounts.books["flights", 1].compared == 1
    assert kept.accounts.label_free == {}


def test_the_accounts_of_what_is_closed_are_dropped(tmp_path: Path) -> None:
    """The ledger holds what is open, and nothing for ever."""
    _fill(tmp_path, 2)
    kept = Kept(tmp_path)
    kept.advance()
    over = closed(registration(), at_epoch=OPENED + 1)
    assert over.closed_epoch is not None
    kept.accounts.advance([], kept.rollouts)
    assert "registration" not in (tmp_path / ledger.NAME).read_text()
