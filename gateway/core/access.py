"""Who may do what: roles that a key carries, and the right that each route asks for.

Rules: pure, and deny by default: a role holds exactly the rights written in GRANTS. Labels
can buy a promotion, so the right to post them comes with no other role, not even admin;
neither does the right to be counted as traffic.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Iterable
from hashlib import sha256
from typing import Literal, Protocol, TypeVar, get_args

from gateway.errors import Forbidden, InvalidInput

Role = Literal["infer", "label", "view", "operate", "admin"]
Right = Literal["infer", "label", "view", "operate", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
RIGHTS: tuple[Right, ...] = get_args(Right)

GRANTS: dict[str, frozenset[Right]] = {
    "infer": frozenset({"infer"}),
    "label": frozenset({"label"}),
    "view": frozenset({"view"}),
    "operate": frozenset({"view", "operate"}),
    "admin": frozenset({"view", "operate", "admin"}),
}
_TOKEN_CHARACTERS = 43  # 32 random bytes in URL-safe base64


class Bearer(Protocol):
    """What of a key decides; `endpoints` empty means all of them."""

    @property
    def name(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def endpoints(self) -> Collection[str]: ...


_K = TypeVar("_K", bound=Bearer)


def require_right(key: Bearer, right: Right, *, endpoint: str | None) -> None:
    """Raise Forbidden unless the key's role holds `right`, and the key covers `endpoint`.

    `endpoint` None means that the request names none: the role alone decides.
    """
    if right not in GRANTS.get(key.role, frozenset()):
        able = ", ".join(role for role in ROLES if right in GRANTS[role])
        raise Forbidden(f"a key of role {key.role} may not {right} here; use a key of role {able}")
    if endpoint is not None and not covers(key, endpoint):
        raise Forbidden(f"this key does not cover endpoint {endpoint}")


def covers(key: Bearer, endpoint: str) -> bool:
    """Whether the key may see `endpoint` at all."""
    return not key.endpoints or endpoint in key.endpoints


def require_role(role: str) -> Role:
    """Return `role`, or raise InvalidInput naming the roles there are."""
    for known in ROLES:
        if known == role:
            return known
    raise InvalidInput("role", f"there is no role {role!r}; use one of {', '.join(ROLES)}")


def token_of(role: Role, secret: str) -> str:
    """The text that the holder keeps; `secret` is 43 URL-safe characters from the caller."""
    if len(secret) != _TOKEN_CHARACTERS:
        raise ValueError(f"a key's secret has {_TOKEN_CHARACTERS} characters, not {len(secret)}")
    return f"aud_{role}_{secret}"


def token_sha256(token: str) -> str:
    """What is stored in the token's place, as hexadecimal digits."""
    return sha256(token.encode()).hexdigest()


def find_key(keys: Iterable[_K], token: str) -> _K | None:
    """The key of `token`. Every key is compared, in constant time, whichever matches."""
    digest = token_sha256(token)
    found: _K | None = None
    for key in keys:
        if hmac.compare_digest(key.sha256, digest):
            found = key
    return found
