"""Access keys: made here, shown once, known afterwards by their SHA-256 only."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import msgspec

from gateway.core.access import require_role, token_of, token_sha256
from gateway.core.names import require_name
from gateway.ports import ControlStore, Key

_SECRET_BYTES = 32


class NewKey(msgspec.Struct, frozen=True):
    """A key and its token, the only time that the token is seen."""

    key: Key
    token: str


def create_key(
    store: ControlStore,
    *,
    name: str,
    role: str,
    endpoints: Sequence[str] = (),
    at_us: int,
    token: str | None = None,
) -> NewKey:
    """Make and store a key; `endpoints` empty covers all. `token` None: a random one.

    Raises InvalidInput (role), InvalidName, or Conflict where the name is taken.
    """
    known = require_role(role)
    require_name("key", name)
    for endpoint in endpoints:
        require_name("endpoint", endpoint)
    given = token_of(known, secrets.token_urlsafe(_SECRET_BYTES)) if token is None else token
    key = Key(
        name=name,
        sha256=token_sha256(given),
        role=known,
        endpoints=tuple(endpoints),
        created_at_us=at_us,
    )
    store.add_key(key)
    return NewKey(key=key, token=given)
