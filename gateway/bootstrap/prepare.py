"""Before anything is served: the state folder, the first admin key, the model repository."""

from __future__ import annotations

import os
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from gateway.bootstrap.identity import now_us
from gateway.core.rollout import AddVersion, Configure, first_rollout, step
from gateway.core.routes import Rollout, shared_inputs
from gateway.errors import Conflict, InvalidSetting
from gateway.judge.access_keys import create_key
from gateway.ports import ControlStore
from gateway.runtimes.repository import ModelRepository
from gateway.settings import EndpointFile, Settings, load_endpoint_file
from gateway.stores.sql import open_store


def prepare(settings: Settings) -> None:
    """Make the state folder, and bring the store up to the model repository.

    Run once before any process of the server. Raises what is wrong with a setting, an
    endpoint file or a model, before anything is served.
    """
    os.umask(0o077)
    settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder in ("journal", "shadow", "archive", "clock", "uploads"):
        (settings.state / folder).mkdir(exist_ok=True, mode=0o700)
    store = open_store(settings.store_url)
    _ensure_admin_key(store, settings)
    repository = ModelRepository(settings.models)
    for endpoint in repository.endpoints():
        path = repository.endpoint_file(endpoint)
        file = load_endpoint_file(path) if path.exists() else EndpointFile()
        _bring_up(store, repository, endpoint, file)


def _ensure_admin_key(store: ControlStore, settings: Settings) -> None:
    roles = {key.role for key in store.keys()}  # noqa: SIM118 - no dictionary
    if "admin" in roles:
        return
    new = create_key(
        store,
        name="admin",
        role="admin",
        at_us=now_us(),
        token=settings.admin_key or None,
    )
    if not settings.admin_key:
        sys.stderr.write(
            f"The admin key, shown this once: {new.token}\n"
            "Keep it and set AUDITION_KEY to it for the command line.\n"
        )


def _bring_up(
    store: ControlStore, repository: ModelRepository, endpoint: str, file: EndpointFile
) -> None:
    versions = repository.versions(endpoint)
    if endpoint not in store.endpoints():
        champion = file.champion or (versions[0] if len(versions) == 1 else None)
        if champion is None:
            raise InvalidSetting(
                f"{repository.endpoint_file(endpoint)}: champion is missing, and there are "
                f"several versions ({', '.join(versions)}); say which one answers"
            )
        rollout = first_rollout(
            endpoint,
            champion=repository.facts(endpoint, champion),
            rules=file.rules(),
            salt=secrets.token_hex(16),
        )
        with suppress(Conflict):
            store.create(rollout, actor="audition", reason="first served", at_us=now_us())
    rollout = store.rollout(endpoint)
    if rollout.rules != file.rules():
        _commit(store, rollout, Configure(file.rules()), "the endpoint file changed")
    found = [version for version in versions if version not in rollout.versions]
    # Each is inspected in a child of its own, and starting those is most of the time.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for facts in pool.map(lambda version: repository.facts(endpoint, version), found):
            rollout = store.rollout(endpoint)
            _commit(store, rollout, AddVersion(facts), "found in the model repository")


def _commit(
    store: ControlStore, rollout: Rollout, command: Configure | AddVersion, reason: str
) -> None:
    after = step(rollout, command)
    shared_inputs(after.versions[version] for version in after.serving())
    store.commit(after, command=command, actor="audition", reason=reason, at_us=now_us())
