"""What operators can do: the use cases behind the CLI, the API and the console.

Rules: each change asks `core.rollout.step` for the next rollout and hands it to commits.py
with who did it and why. Nothing here knows HTTP, and nothing here decides what a verdict is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from gateway.core.comparable import require_comparable, require_same_file
from gateway.core.names import require_name
from gateway.core.rollout import (
    AddVersion,
    Challenge,
    Promote,
    Rollback,
    Shadow,
    Split,
    Withdraw,
    step,
)
from gateway.core.routes import Rollout
from gateway.errors import Refused
from gateway.judge import registrations as opening
from gateway.judge.access_keys import NewKey, create_key
from gateway.judge.acknowledgement import LiveWorkers
from gateway.judge.audit import require_sound
from gateway.judge.changes import Change, Intent, ModelRepository
from gateway.judge.commits import Commits, require_reason
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
        self._commits = Commits(
            store,
            clock_us=clock_us,
            live_workers=live_workers,
            acknowledge_within_s=acknowledge_within_s,
        )

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
        rollout = self._commits.read(endpoint, intent)
        if version in rollout.versions:
            raise Refused(f"version {version} exists and versions are immutable; use another name")
        facts = self._repository.add(endpoint, version, content)
        return self._commits.commit(rollout, AddVersion(facts), intent)

    def challenge(
        self, endpoint: str, version: str, *, intent: Intent, sample_bp: int | None = None
    ) -> Change:
        """Register the version and run it in shadow. `sample_bp` None: the endpoint's rule.

        A file that was put into the repository by hand is made known first, in an epoch of
        its own. Raises Refused where one request could not feed both versions.
        """
        require_name("version", version)
        rollout = self._with_file(self._commits.read(endpoint, intent), version, intent)
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
        return self._commits.commit(rollout, command, intent, opened=[opened])

    def withdraw(self, endpoint: str, version: str, *, intent: Intent) -> Change:
        """Close the challenger's registration; it leaves shadow and split."""
        rollout = self._commits.read(endpoint, intent)
        challenger = rollout.challengers.get(version)
        closed = {} if challenger is None else {challenger.registration: "withdrawn"}
        return self._commits.commit(rollout, Withdraw(version), intent, closed=closed)

    def split(self, endpoint: str, weights_bp: Mapping[str, int], *, intent: Intent) -> Change:
        """Share the answers, in basis points that sum to 10,000."""
        rollout = self._commits.read(endpoint, intent)
        answering = [version for version, weight_bp in weights_bp.items() if weight_bp > 0]
        return self._commits.commit(rollout, Split(dict(weights_bp)), intent, answering=answering)

    def shadow(self, endpoint: str, version: str, *, sample_bp: int, intent: Intent) -> Change:
        """Change the share of predictions that a challenger's shadow sees; 0 turns it off."""
        rollout = self._commits.read(endpoint, intent)
        return self._commits.commit(rollout, Shadow(version, sample_bp), intent)

    def promote(
        self, endpoint: str, version: str, *, intent: Intent, is_forced: bool = False
    ) -> Change:
        """Make a challenger the champion.

        Its latest verdict must be PROMOTE at the moment of the commit, or the promotion be
        forced with a reason. Raises Refused.
        """
        if is_forced:
            require_reason(intent, "a forced promotion")
        rollout = self._commits.read(endpoint, intent)
        draft = Promote(version, forced=is_forced)
        step(rollout, draft)
        opened = self._reopened(rollout, version, earned=0 if is_forced else 1)
        registration = rollout.challengers[version].registration
        if not is_forced:
            self._require_evidence(endpoint, registration)
        return self._commits.commit(
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
        require_reason(intent, "a rollback")
        rollout = self._commits.read(endpoint, intent)
        champion = step(rollout, Rollback()).champion
        opened = self._reopened(rollout, champion, earned=0)
        return self._commits.commit(
            rollout,
            Rollback(stay=opening.challengers_of(rollout, opened)),
            intent,
            opened=opened,
            closed=self._closed(endpoint, f"rolled back to version {champion}"),
            answering=[champion],
        )

    def _require_evidence(self, endpoint: str, number: int) -> None:
        """Raise Refused where what the verdict rests on is stale, or not what was written."""
        latest = self._store.checkpoints(endpoint, number, latest_only=True)
        if not latest:
            return  # the commit says that there is no verdict yet
        require_fresh_evidence(self._store, now_us=self._clock_us())
        (found,) = (one for one in self._store.registrations(endpoint) if one.number == number)
        require_sound(found, self._store.decisions(endpoint), latest[0])

    def _with_file(self, rollout: Rollout, version: str, intent: Intent) -> Rollout:
        """The rollout that knows the version, whose file must be there and be the one known."""
        facts = self._repository.facts(rollout.endpoint, version)
        require_same_file(rollout, facts)
        if version in rollout.versions:
            return rollout
        added = AddVersion(facts)
        after = step(rollout, added)
        self._commits.write(after, added, intent)
        return after

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
