"""The control store that belongs to a state folder: made once, and never silently made again.

Rules: only `prepare` may make a store, and only where the state folder knows none. The folder
keeps the id of its store; a store that is missing, empty or another one is refused, because a
new one would send all traffic back to what the endpoint files began with.
"""

from __future__ import annotations

from pathlib import Path

from gateway.errors import StoreUnavailable
from gateway.settings import Settings
from gateway.stores.sql import SqlStore, make_store, open_store

_NAME = "store-id"


def first_store(settings: Settings) -> SqlStore:
    """The store, made if the state folder has none yet. Raises StoreUnavailable."""
    known = _known(settings)
    if known is None:
        store = make_store(settings.store_url)
        _note(settings.state / _NAME, store.identity())
        return store
    store = open_store(settings.store_url, identity=known)
    try:
        store.require_format()
    except StoreUnavailable as error:
        raise StoreUnavailable(
            f"{error}. The store of this state folder must be at {settings.store_url}, or nobody "
            "knows who is champion and which keys there are: put its file back, or that of a "
            f"backup. To begin anew instead, remove {settings.state / _NAME}"
        ) from error
    return store


def known_store(settings: Settings) -> SqlStore:
    """The store of a state folder that is prepared; it may be away now and come back."""
    known = _known(settings)
    if known is None:
        raise StoreUnavailable(f"{settings.state} was not prepared: start with `audition serve`")
    return open_store(settings.store_url, identity=known)


def _known(settings: Settings) -> str | None:
    try:
        return (settings.state / _NAME).read_text().strip()
    except FileNotFoundError:
        return None


def _note(path: Path, identity: str) -> None:
    beside = path.with_name(f".new-{path.name}")
    beside.write_text(identity)
    beside.rename(path)
