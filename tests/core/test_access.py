"""Roles and rights: exactly what is granted, and nothing by another name."""

from __future__ import annotations

import pytest

from gateway.core.access import (
    GRANTS,
    RIGHTS,
    ROLES,
    find_key,
    require_right,
    require_role,
    token_of,
    token_sha256,
)
from gateway.errors import Forbidden, InvalidInput
from gateway.ports import Key


def _key(role: str, *, name: str = "k", token: str = "t", endpoints: tuple[str, ...] = ()) -> Key:
    return Key(
        name=name, sha256=token_sha256(token), role=role, endpoints=endpoints, created_at_us=0
    )


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("right", RIGHTS)
def test_a_role_has_exactly_its_rights(role: str, right: str) -> None:
    """Every pair of role and right is allowed or refused as the table says."""
    allowed = {
        "infer": {"infer"},
        "label": {"label"},
        "view": {"view"},
        "operate": {"view", "operate"},
        "admin": {"view", "operate", "admin"},
    }
    assert set(GRANTS) == set(ROLES)
    if right in allowed[role]:
        require_right(_key(role), right, endpoint="demo")
    else:
        with pytest.raises(Forbidden, match=right):
            require_right(_key(role), right, endpoint="demo")


def test_an_admin_key_may_not_post_labels() -> None:
    """Labels can buy a promotion, so who may promote may not make them."""
    for role in ("operate", "admin"):
        with pytest.raises(Forbidden, match="role label"):
            require_right(_key(role), "label", endpoint=None)


def test_a_role_that_is_not_known_may_nothing() -> None:
    """A key of a role that a later release wrote is worth nothing here."""
    for right in RIGHTS:
        with pytest.raises(Forbidden):
            require_right(_key("emperor"), right, endpoint=None)


def test_a_key_covers_its_endpoints_only() -> None:
    """An empty list means all, another list means those."""
    require_right(_key("view"), "view", endpoint="any")
    limited = _key("view", endpoints=("a", "b"))
    require_right(limited, "view", endpoint="b")
    with pytest.raises(Forbidden, match="does not cover endpoint c"):
        require_right(limited, "view", endpoint="c")


def test_a_token_finds_its_key_and_no_other() -> None:
    """Only the very token, whatever its place in the list."""
    keys = [_key("view", name=str(number), token=f"token-{number}") for number in range(5)]
    found = find_key(keys, "token-3")
    assert found is not None and found.name == "3"
    assert find_key(keys, "token-") is None
    assert find_key([], "token-3") is None


def test_a_token_names_its_role() -> None:
    """A person can see what a key is for; a secret of another length is a mistake."""
    assert token_of("label", "s" * 43) == "aud_label_" + "s" * 43
    with pytest.raises(ValueError, match="43"):
        token_of("label", "short")


def test_an_unknown_role_is_refused_by_name() -> None:
    """The message lists the roles there are."""
    assert require_role("operate") == "operate"
    with pytest.raises(InvalidInput, match="infer, label, view, operate, admin"):
        require_role("root")
