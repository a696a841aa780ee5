"""Who is asking: known keys are let in, guesses are counted, an absent store stops nobody known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import StoreUnavailable, TooManyAttempts, Unauthenticated
from gateway.judge.access_keys import create_key
from gateway.protocols.authentication import Authenticator
from gateway.stores.sql import SqlStore
from tests.rollouts import store_at


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Now."""
        return self.now_s


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    """A store without keys."""
    opened = store_at(tmp_path)
    yield opened
    opened.close()


def _token(store: SqlStore, name: str = "ada", role: str = "view") -> str:
    return create_key(store, name=name, role=role, at_us=1).token


def test_a_key_is_known_by_its_token(store: SqlStore) -> None:
    """The scheme may be written in any case."""
    token = _token(store)
    authenticator = Authenticator(store)
    assert authenticator.identify(f"Bearer {token}").name == "ada"
    assert authenticator.identify(f"bearer  {token} ").name == "ada"


def test_a_key_made_later_is_known_at_once(store: SqlStore) -> None:
    """No restart, and no waiting for a cache to expire."""
    authenticator = Authenticator(store)
    with pytest.raises(Unauthenticated):
        authenticator.identify("Bearer unknown")
    assert authenticator.identify(f"Bearer {_token(store, 'late')}").name == "late"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Bearer wrong"])
def test_no_key_and_a_wrong_key_are_told_the_same(store: SqlStore, header: str | None) -> None:
    """An attacker learns nothing from the words."""
    _token(store)
    with pytest.raises(Unauthenticated) as missing:
        Authenticator(store).identify(None)
    with pytest.raises(Unauthenticated) as other:
        Authenticator(store).identify(header)
    assert str(other.value) == str(missing.value)


def test_a_digest_is_no_key(store: SqlStore) -> None:
    """Who reads the database cannot come in with what stands there."""
    _token(store)
    with pytest.raises(Unauthenticated):
        Authenticator(store).identify(f"Bearer {store.keys()[0].sha256}")


def test_guessing_is_slowed_down_and_keys_go_on_working(store: SqlStore) -> None:
    """After 20 failures in 10 s guesses are told when to come back; a key never waits."""
    token, clock = _token(store), Clock()
    authenticator = Authenticator(store, clock_s=clock)
    for _ in range(20):
        with pytest.raises(Unauthenticated):
            authenticator.identify("Bearer guess")
    with pytest.raises(TooManyAttempts) as slowed:
        authenticator.identify("Bearer guess")
    assert 1 <= slowed.value.retry_after_s <= 11
    assert authenticator.identify(f"Bearer {token}").name == "ada"
    clock.now_s = 10.5
    with pytest.raises(Unauthenticated):
        authenticator.identify("Bearer guess")


def test_asking_without_a_key_is_no_guess(store: SqlStore) -> None:
    """A client that has none, however often it asks, neither slows guesses nor is slowed."""
    authenticator = Authenticator(store, clock_s=Clock())
    for header in [None, "", "Bearer ", "Basic YTpi"] * 10:
        with pytest.raises(Unauthenticated):
            authenticator.identify(header)
    with pytest.raises(Unauthenticated):
        authenticator.identify("Bearer guess")


def test_known_keys_outlive_an_absent_store(tmp_path: Path) -> None:
    """A key that was seen goes on working; of another one the store must be asked."""
    folder = tmp_path / "state"
    folder.mkdir()
    store = store_at(folder)
    token = _token(store)
    authenticator = Authenticator(store)
    assert authenticator.identify(f"Bearer {token}").name == "ada"
    store.close()
    folder.rename(tmp_path / "away")
    assert authenticator.identify(f"Bearer {token}").name == "ada"
    with pytest.raises(StoreUnavailable):
        authenticator.identify("Bearer unknown")
