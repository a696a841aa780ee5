"""Who waits for a thread: a line for each endpoint, and whose turn is next.

Rules: only the event loop touches this, so nothing is locked. Endpoints take turns, whatever
the length of their lines. A model whose runs are worth joining runs once at a time, and what
comes meanwhile is its next run; only when a whole batch waits does a second run begin beside
the first. Nothing here runs a model, and nothing here waits.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from gateway.serving.batches import Run, Waiting

#: A batch is predicted to take at most this share of the time limit, so that joining more
#: rows never makes a run late that would have been in time by itself.
_SHARE_OF_LIMIT = 0.25


class Lines:
    """The waiting requests of all endpoints. `waiting` counts them."""

    def __init__(self) -> None:
        # In the order of turns: who had one goes to the end.
        self._lines: dict[str, deque[Waiting]] = {}
        self._busy: Counter[tuple[str, str]] = Counter()
        self.waiting = 0

    def add(self, one: Waiting) -> None:
        """Let it wait behind the others of its endpoint."""
        self._lines.setdefault(one.endpoint, deque()).append(one)
        self.waiting += 1

    def put_back(self, members: Iterable[Waiting]) -> None:
        """Let members of a run that failed wait in front, each to be run alone."""
        for one in reversed([*members]):
            one.kind, one.run = None, None
            self._lines.setdefault(one.endpoint, deque()).appendleft(one)
            self.waiting += 1

    def remove(self, one: Waiting) -> None:
        """It waits no longer, if it did."""
        line = self._lines.get(one.endpoint, ())
        if one in line:
            self._lines[one.endpoint].remove(one)
            self._left(one.endpoint, 1)

    def newest_of_longest(self, *, beyond: str) -> Waiting | None:
        """Who came last in the longest line, if that line is longer by two than `beyond`'s."""
        own = len(self._lines.get(beyond, ()))
        longest = max(self._lines.values(), key=len, default=None)
        return longest[-1] if longest is not None and len(longest) > own + 1 else None

    def next_run(self) -> Run | None:
        """The run that is to begin now; None if nobody waits or each waits for a model."""
        members = next(filter(None, map(self._next_of, self._lines.values())), None)
        if members is None:
            return None
        endpoint = members[0].endpoint
        line = self._lines[endpoint] = self._lines.pop(endpoint)
        run = Run(members)
        for one in members:
            line.remove(one)
            one.run = run
        self._left(endpoint, len(members))
        if members[0].kind is not None:
            self._busy[_model(members[0])] += 1
        return run

    def ended(self, run: Run) -> None:
        """A run is over, so its model is free for the next."""
        first = run.members[0]
        if first.kind is not None:
            key = _model(first)
            self._busy[key] -= 1
            if not self._busy[key]:
                del self._busy[key]

    def _left(self, endpoint: str, members: int) -> None:
        self.waiting -= members
        if not self._lines[endpoint]:
            del self._lines[endpoint]

    def _next_of(self, line: deque[Waiting]) -> list[Waiting]:
        """The members of the run that may begin, of the one who has waited longest."""
        passed: set[str] = set()
        for one in line:
            if one.served.digest in passed:
                continue
            if one.kind is None:
                return [one]
            members, is_full = _joined(one, line)
            if is_full or _model(one) not in self._busy:
                return members
            passed.add(one.served.digest)
        return []


def _joined(first: Waiting, line: Iterable[Waiting]) -> tuple[list[Waiting], bool]:
    """`first` and those that can share its run, in order, and whether no more would fit."""
    members: list[Waiting] = []
    rows = 0
    model, rules = first.served.model, first.rules
    budget_us = rules.time_limit_ms * 1000 * _SHARE_OF_LIMIT
    for one in line:
        if one.kind != first.kind or one.served.digest != first.served.digest:
            continue
        more = rows + one.rows
        if members and (more > rules.max_batch_rows or model.predicted_us(more) > budget_us):
            return members, True
        members.append(one)
        rows = more
    return members, rows >= rules.max_batch_rows


def _model(one: Waiting) -> tuple[str, str]:
    return one.endpoint, one.served.digest
