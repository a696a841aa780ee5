"""What operators can do: the use cases behind the CLI, the API and the console.

Rules: each change reads the rollout, asks `core.rollout.step` for the next one and commits
it against the epoch that it read, so what was checked is what is written. It carries who
did it and why. Nothing here knows HTTP, and nothing here decides what a verdict is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gateway.core.comparable import require_comparable
from gateway.core.names import require_name
from gateway.core.rollout import (
    AddVersion,
    Challenge,
    Command,
    Promote,
    Rollback,
    Shadow,
    Split,
    Withdraw,
    step,
)
from gateway.core.routes import Rollout
from gateway.errors import Conflict, InvalidInput, Refused
from gateway.judge import registrations as opening
from gateway.judge.access_keys import NewKey, create_key
from gateway.judge.acknowledgement import LiveWorkers, require_loaded, wait_acknowledged
from gateway.judge.changes import Change, Intent, ModelRepository, Opened
from gateway.judge.documents import (
    DecisionsDocument,
    EvidenceDocument,
    StatusDocument,
    VersionsDocument,
)
from gateway.judge.freshness import require_fresh_evidence
from gateway.judge.status import (
    endpoint_decisions,
    endpoint_evidence,
    endpoint_status,
    endpoint_versions,
)
from gateway.ports import ControlStore, Key, Registration

_ACKNOWLEDGE_WITHIN_S = 5.0
_REASON_CHARACTERS = 1000


class Operations:
    """Use cases over the control store. Any may raise StoreUnavailable or UnknownEndpoint.

    Each change raises Conflict when the endpoint is at another epoch than the intent's.
    """

    def __init__(
        self,
        store: ControlStore,
        *,
        clock_us: Callable[[], int],
        live_workers: LiveWorkers,
        repository: ModelRepository,
        acknowledge_within_s: float = _ACKNOWLEDGE_WITHIN_S,
    ) -> None:
        self._store = store
        self._clock_us = clock_us
        self._live_workers = live_workers
        self._repository = repository
        self._acknowledge_within_s = acknowledge_within_s

    def endpoints(self) -> list[str]:
        """Names of all endpoints."""
        return self._store.endpoints()

    def status(self, endpoint: str) -> StatusDocument:
        """See `gateway.judge.status`."""
        return endpoint_status(
            self._store, endpoint, now_us=self._clock_us(), live=self._live_workers()
        )

    def evidence(self, endpoint: str) -> EvidenceDocument:
        """Every registration with its terms and latest checkpoint."""
        return endpoint_evidence(self._store, endpoint)

    def decisions(self, endpoint: str) -> DecisionsDocument:
        """The decision log and what a check of it found wrong."""
        return endpoint_decisions(self._store, endpoint)

    def versions(self, endpoint: str) -> VersionsDocument:
        """The versions that are known, and the files that are there besides."""
        on_disk = self._repository.versions(endpoint)
        return endpoint_versions(self._store, endpoint, on_disk=on_disk)

    def create_key(self, *, name: str, role: str, endpoints: Sequence[str] = ()) -> NewKey:
        """Make an access key; its token is in the answer and nowhere else."""
        return create_key(
            self._store, name=name, role=role, endpoints=endpoints, at_us=self._clock_us()
        )

    def keys(self) -> list[Key]:
        """All keys, by name."""
        return self._store.keys()

    def add_version(self, endpoint: str, version: str, content: Path, *, intent: Intent) -> Change:
        """Take the file at `content` in as an immutable version; it gets no traffic."""
        require_name("version", version)
        rollout = self._read(endpoint, intent)
        if version in rollout.versions:
            raise Refused(f"version {version} exists and versions are immutable; use another name")
        facts = self._repository.add(endpoint, version, content)
        return self._commit(rollout, AddVersion(facts), intent)

    def challenge(
        self, endpoint: str, version: str, *, intent: Intent, sample_bp: int | None = None
    ) -> Change:
        """Register the version and run it in shadow. `sample_bp` None: the endpoint's rule.

        A file that was put into the repository by hand is made known first, in an epoch of
        its own. Raises Refused where one request could not feed both versions.
        """
        require_name("version", version)
        rollout = self._with_file(self._read(endpoint, intent), version, intent)
        draft = Challenge(
            version=version,
            registration=len(self._store.registrations(endpoint)) + 1,
            registration_digest="",
            probability_bp=rollout.rules.sample_bp if sample_bp is None else sample_bp,
        )
        step(rollout, draft)  # refuses before anything is opened
        require_comparable(rollout, rollout.champion, version)
        opened = opening.open_registration(
            rollout,
            champion=rollout.champion,
            version=version,
            number=draft.registration,
            promotions=self._promotions(endpoint),
            at_us=self._clock_us(),
        )
        command = msgspec.structs.replace(draft, registration_digest=opened.digest)
        return self._commit(rollout, command, intent, opened=[opened])

    def withdraw(self, endpoint: str, version: str, *, intent: Intent) -> Change:
        """Close the challenger's registration; it leaves shadow and split."""
        rollout = self._read(endpoint, intent)
        challenger = rollout.challengers.get(version)
        closed = {} if challenger is None else {challenger.registration: "withdrawn"}
        return self._commit(rollout, Withdraw(version), intent, closed=closed)

    def split(self, endpoint: str, weights_bp: Mapping[str, int], *, intent: Intent) -> Change:
        """Share the answers, in basis points that sum to 10,000."""
        rollout = self._read(endpoint, intent)
        answering = [version for version, weight_bp in weights_bp.items() if weight_bp > 0]
        return self._commit(rollout, Split(dict(weights_bp)), intent, answering=answering)

    def shadow(self, endpoint: str, version: str, *, sample_bp: int, intent: Intent) -> Change:
        """Change the share of predictions that a challenger's shadow sees; 0 turns it off."""
        rollout = self._read(endpoint, intent)
        return self._commit(rollout, Shadow(version, sample_bp), intent)

    def promote(
        self, endpoint: str, version: str, *, intent: Intent, is_forced: bool = False
    ) -> Change:
        """Make a challenger the champion.

        Its latest verdict must be PROMOTE at the moment of the commit, or the promotion be
        forced with a reason. Raises Refused.
        """
        if is_forced:
            _require_reason(intent, "a forced promotion")
        rollout = self._read(endpoint, intent)
        draft = Promote(version, forced=is_forced)
        step(rollout, draft)
        opened = self._reopened(rollout, version, earned=0 if is_forced else 1)
        registration = rollout.challengers[version].registration
        if not is_forced and self._store.checkpoints(endpoint, registration, latest_only=True):
            require_fresh_evidence(self._store, now_us=self._clock_us())
        return self._commit(
            rollout,
            msgspec.structs.replace(draft, stay=opening.challengers_of(rollout, opened)),
            intent,
            opened=opened,
            closed=self._closed(endpoint, f"version {version} was promoted"),
            answering=[version],
            require_verdict=None if is_forced else (registration, "PROMOTE"),
        )

    def rollback(self, endpoint: str, *, intent: Intent) -> Change:
        """Make the previous champion the champion again; needs a reason. Raises Refused."""
        _require_reason(intent, "a rollback")
        rollout = self._read(endpoint, intent)
        champion = step(rollout, Rollback()).champion
        opened = self._reopened(rollout, champion, earned=0)
        return self._commit(
            rollout,
            Rollback(stay=opening.challengers_of(rollout, opened)),
            intent,
            opened=opened,
            closed=self._closed(endpoint, f"rolled back to version {champion}"),
            answering=[champion],
        )

    def _read(self, endpoint: str, intent: Intent) -> Rollout:
        rollout = self._store.rollout(endpoint)
        if rollout.epoch != intent.expected_epoch:
            raise Conflict(
                f"endpoint {endpoint} is at epoch {rollout.epoch}, not {intent.expected_epoch}; "
                "look at its status and decide anew",
                epoch=rollout.epoch,
            )
        return rollout

    def _with_file(self, rollout: Rollout, version: str, intent: Intent) -> Rollout:
        """The rollout that knows the version, whose file must be there and be the one known."""
        facts = self._repository.facts(rollout.endpoint, version)
        known = rollout.versions.get(version)
        if known is None:
            added = AddVersion(facts)
            after = step(rollout, added)
            self._write(after, added, intent)
            return after
        if known.digest != facts.digest:
            raise Refused(
                f"the file of version {version}, or its mapping, is not the one that was added "
                f"(digest {facts.digest[:12]}… instead of {known.digest[:12]}…); versions are "
                "immutable"
            )
        return rollout

    def _reopened(self, rollout: Rollout, champion: str, *, earned: int) -> list[Registration]:
        return opening.reopen_against(
            rollout,
            champion,
            after=len(self._store.registrations(rollout.endpoint)),
            promotions=self._promotions(rollout.endpoint) + earned,
            at_us=self._clock_us(),
        )

    def _promotions(self, endpoint: str) -> int:
        return opening.promotions_by_verdict(self._store.decisions(endpoint))

    def _closed(self, endpoint: str, reason: str) -> dict[int, str]:
        return dict.fromkeys(opening.open_numbers(self._store.registrations(endpoint)), reason)

    def _commit(
        self,
        rollout: Rollout,
        command: Command,
        intent: Intent,
        *,
        opened: Sequence[Registration] = (),
        closed: Mapping[int, str] | None = None,
        answering: Sequence[str] = (),
        require_verdict: tuple[int, str] | None = None,
    ) -> Change:
        """`answering` are the versions that the change sends live traffic to."""
        after = step(rollout, command)
        reports, live = self._store.workers(), self._live_workers()
        require_loaded(rollout, answering, reports=reports, live=live)
        self._write(
            after,
            command,
            intent,
            opened=opened,
            closed=closed,
            require_verdict=require_verdict,
        )
        return self._heard(after, opened)

    def _write(self, after: Rollout, command: Command, intent: Intent, **terms: Any) -> None:
        _require_readable(intent.reason)
        self._store.commit(
            after,
            command=command,
            actor=intent.actor,
            reason=intent.reason,
            at_us=self._clock_us(),
            **terms,
        )

    def _heard(self, after: Rollout, opened: Sequence[Registration]) -> Change:
        heard = wait_acknowledged(
            self._store,
            self._live_workers,
            after.endpoint,
            after.epoch,
            timeout_s=self._acknowledge_within_s,
        )
        return Change(
            endpoint=after.endpoint,
            epoch=after.epoch,
            acknowledged=heard.acknowledged,
            lagging=heard.lagging,
            opened=[Opened(r.version, r.number, r.level) for r in opened],
        )


def _require_reason(intent: Intent, what: str) -> None:
    if not intent.reason.strip():
        raise InvalidInput("reason", f"{what} needs one: say why, for the decision log")


def _require_readable(reason: str) -> None:
    """A reason ends up on terminals and web pages: one line of text, and not a book."""
    if len(reason) > _REASON_CHARACTERS or not reason.isprintable():
        raise InvalidInput("reason", f"use at most {_REASON_CHARACTERS} printable characters")
