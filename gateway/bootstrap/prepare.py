"""Before anything is served: the state folder, the first admin key, the model repository."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from gateway.archive.label_index import prepare_index
from gateway.bootstrap.addresses import require_free
from gateway.bootstrap.control import first_store
from gateway.bootstrap.identity import now_us
from gateway.bootstrap.mapped_repository import (
    bound,
    read_endpoint_file,
    require_known_mappings,
)
from gateway.core.nearest import did_you_mean, listed
from gateway.core.rollout import AddVersion, Configure, first_rollout, step
from gateway.core.routes import EndpointRules, Rollout, VersionFacts, shared_inputs
from gateway.endpoint_file import EndpointFile
from gateway.errors import Conflict, InvalidModel, InvalidSetting
from gateway.judge.access_keys import create_key
from gateway.ports import ControlStore
from gateway.runtimes.providers import unavailable
from gateway.runtimes.repository import ModelRepository
from gateway.settings import Settings

_ADMIN_KEY_CHARACTERS = 32


def prepare(settings: Settings) -> None:
    """Make the state folder, and bring the store up to the model repository.

    Run once before any process of the server. Raises what is wrong with a setting, an
    endpoint file or a model, before anything is served.
    """
    _check_providers(settings.provider_names)
    os.umask(0o077)
    if settings.grpc_port:
        require_free(settings.grpc_host, settings.grpc_port)
    settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder in ("journal", "shadow", "archive", "clock", "uploads"):
        (settings.state / folder).mkdir(exist_ok=True, mode=0o700)
    prepare_index(settings.state / "labels.sqlite")
    store = first_store(settings)
    _ensure_admin_key(store, settings)
    repository = ModelRepository(settings.models)
    names = repository.endpoints()
    files = {name: read_endpoint_file(repository.endpoint_file(name)) for name in names}
    fresh = _inspect_new(store, repository, list(files))
    for endpoint, file in files.items():
        _bring_up(store, repository, endpoint, file, fresh[endpoint])
    _claim_archive(settings)


def _claim_archive(settings: Settings) -> None:
    mark = settings.state / "archive-id"
    if settings.archive or mark.exists():
        # It brings pyarrow, 40 MB. And it comes after the forks that inspect models, because a
        # storage's client has threads.
        from gateway.archive.place import claim  # noqa: PLC0415

        claim(settings.state / "archive", settings.archive, mark=mark)


def _check_providers(wanted: Sequence[str]) -> None:
    missing = unavailable(wanted)
    if missing and "cpu" not in wanted:
        raise InvalidSetting(f"AUDITION_PROVIDERS: {missing}, or set cuda,cpu to fall back")
    if missing:
        sys.stderr.write(f"AUDITION_PROVIDERS: {missing}. Every model runs on cpu until then.\n")


def _ensure_admin_key(store: ControlStore, settings: Settings) -> None:
    roles = {key.role for key in store.keys()}  # noqa: SIM118 - no dictionary
    if "admin" in roles:
        return
    if 0 < len(settings.admin_key) < _ADMIN_KEY_CHARACTERS:
        raise InvalidSetting(
            f"AUDITION_ADMIN_KEY: {len(settings.admin_key)} characters can be guessed; use "
            f"{_ADMIN_KEY_CHARACTERS} or more, or leave it out to be given one"
        )
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
    store: ControlStore,
    repository: ModelRepository,
    endpoint: str,
    file: EndpointFile,
    fresh: Mapping[str, VersionFacts],
) -> None:
    """Everything is looked at before anything is written."""
    path, rules = repository.endpoint_file(endpoint), file.rules()
    is_new = endpoint not in store.endpoints()
    champion = _first_champion(repository, endpoint, file) if is_new else ""
    found = {version: bound(file, path, facts) for version, facts in fresh.items()}
    if is_new:
        facts = found.get(champion) or bound(file, path, repository.facts(endpoint, champion))
        salt = secrets.token_hex(16)
        first = first_rollout(endpoint, champion=facts, rules=rules, salt=salt)
        _require_named_parts(first, rules, found, path)
        with suppress(Conflict):
            store.create(first, actor="audition", reason="first served", at_us=now_us())
    rollout = store.rollout(endpoint)
    require_known_mappings(file, path, rollout)
    _require_named_parts(rollout, rules, found, path)
    if rollout.rules != rules:
        _commit(store, rollout, Configure(rules), "the endpoint file changed")
    for version, facts in found.items():
        rollout = store.rollout(endpoint)
        if version not in rollout.versions:
            _commit(store, rollout, AddVersion(facts), "found in the model repository")


def _inspect_new(
    store: ControlStore, repository: ModelRepository, endpoints: Sequence[str]
) -> dict[str, dict[str, VersionFacts]]:
    """Per endpoint, the versions that nobody knows yet; a bad file of one must stop nobody."""
    served = store.endpoints()
    fresh = []
    for endpoint in endpoints:
        known = store.rollout(endpoint).versions if endpoint in served else {}
        fresh += [(endpoint, v) for v in repository.versions(endpoint) if v not in known]
    found: dict[str, dict[str, VersionFacts]] = {endpoint: {} for endpoint in endpoints}
    for (endpoint, version), facts in zip(fresh, repository.facts_of_many(fresh), strict=True):
        if isinstance(facts, InvalidModel):
            sys.stderr.write(f"Version {version} of endpoint {endpoint} is left out: {facts}\n")
        else:
            found[endpoint][version] = facts
    return found


def _first_champion(repository: ModelRepository, endpoint: str, file: EndpointFile) -> str:
    path, versions = repository.endpoint_file(endpoint), repository.versions(endpoint)
    known = ", ".join(versions)
    if file.champion is not None and file.champion not in versions:
        raise InvalidSetting(
            f"{path}: champion: there is no version {file.champion!r}; there are: {known}"
        )
    if file.champion is None and len(versions) > 1:
        raise InvalidSetting(
            f"{path}: champion is missing, and there are several versions ({known}); "
            "say which one answers"
        )
    return file.champion or versions[0]


def _require_named_parts(
    rollout: Rollout, rules: EndpointRules, found: Mapping[str, VersionFacts], path: Path
) -> None:
    """Outputs and inputs that the endpoint file names must be some version's."""
    for version in rollout.serving():
        output = rules.prediction.output_of(version)
        names = rollout.versions[version].signature.output_names
        if output is not None and output not in names:
            raise InvalidSetting(
                f"{path}: prediction.output: version {version} has no output {output!r}; "
                f"it has {', '.join(names)}" + did_you_mean(output, names)
            )
    versions = {**rollout.versions, **found}.values()
    inputs = {spec.name: spec for facts in versions for spec in facts.signature.inputs}
    for name in rules.allow_missing:
        if name not in inputs or not inputs[name].kind.is_float:
            raise InvalidSetting(
                f"{path}: allow_missing: no version reads a floating-point input {name!r}; "
                f"inputs are {', '.join(sorted(inputs))}" + did_you_mean(name, inputs)
            )
    answered = {name for facts in versions for name in facts.signature.output_names}
    for key, output in rules.state.tensors.items():
        for verb, name, there in (("reads", key, set(inputs)), ("answers", output, answered)):
            if name not in there:
                raise InvalidSetting(
                    f"{path}: state.tensors.{key}: no version {verb} {name!r}; there are "
                    f"{listed(sorted(there))}" + did_you_mean(name, there)
                )


def _commit(
    store: ControlStore, rollout: Rollout, command: Configure | AddVersion, reason: str
) -> None:
    after = step(rollout, command)
    shared_inputs(after.versions[version] for version in after.serving())
    store.commit(after, command=command, actor="audition", reason=reason, at_us=now_us())
