"""Who is asking: bearer tokens to keys, from a cache that a changed store refreshes.

Rules: an unknown token and a missing one are told the same, but only a token is a guess.
Guesses are counted for the process, not for the address (which a proxy hides); a token that
is known is served whatever others guess. While the store is away, known keys go on working.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

from gateway.core.access import find_key
from gateway.errors import StoreUnavailable, TooManyAttempts, Unauthenticated
from gateway.ports import ControlStore, Key

_FAILURES_ALLOWED = 20
_FAILURE_WINDOW_S = 10.0


class Authenticator:
    """Thread-safe. `identify` may block on the store, so keep it off an event loop."""

    def __init__(self, store: ControlStore, *, clock_s: Callable[[], float] = monotonic) -> None:
        self._store = store
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._keys: list[Key] = []
        self._token: int | None = None
        self._failed_at_s: deque[float] = deque(maxlen=_FAILURES_ALLOWED)

    def identify(self, authorization: str | None) -> Key:
        """The key of an Authorization header's value.

        Raises Unauthenticated, TooManyAttempts after too many failures, or StoreUnavailable where
        the key is not known yet and the store cannot say.
        """
        token = _bearer_token(authorization)
        stale = self._refresh()
        key = find_key(self._keys, token) if token else None
        if key is not None:
            return key
        if stale is not None:
            raise stale
        if token:
            self._count_failure()
        raise Unauthenticated("send a valid key: `Authorization: Bearer …`")

    def _refresh(self) -> StoreUnavailable | None:
        """Read the keys again if anything was committed; say so where that is not possible."""
        try:
            change_token = self._store.change_token()
            with self._lock:
                if change_token != self._token:
                    self._keys = self._store.keys()
                    self._token = change_token
        except StoreUnavailable as error:
            return error
        return None

    def _count_failure(self) -> None:
        now_s = self._clock_s()
        with self._lock:
            oldest_s = self._failed_at_s[0] if self._is_full() else None
            if oldest_s is not None and now_s - oldest_s < _FAILURE_WINDOW_S:
                wait_s = int(_FAILURE_WINDOW_S - (now_s - oldest_s)) + 1
                raise TooManyAttempts("too many unknown keys; wait", retry_after_s=wait_s)
            self._failed_at_s.append(now_s)

    def _is_full(self) -> bool:
        return len(self._failed_at_s) == _FAILURES_ALLOWED


def _bearer_token(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
