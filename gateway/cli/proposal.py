"""An endpoint file as `audition models inspect` proposes it: YAML, with its doubts as comments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml

from gateway.core.matching import Match, endpoint_classes, match
from gateway.core.proposal import Found, Proposal, propose
from gateway.core.tensors import TensorSpec
from gateway.endpoint_file import EndpointFile, load_endpoint_file
from gateway.errors import InvalidSetting
from gateway.runtimes.inspection import Inspection, inspect_file
from gateway.runtimes.repository import MODEL_FILE, ModelRepository
from gateway.strict_yaml import read_yaml

_ORDER = ("champion", "task", "inputs", "outputs", "prediction", "state", "versions")


def proposed_alone(found: Inspection) -> Proposal:
    """For a model that is the only version."""
    return propose(_found(found))


def proposed_against(found: Inspection, champion: Path, *, version: str) -> Proposal:
    """For a model that is to challenge `champion`, a file or the folder of an endpoint.

    Raises InvalidSetting where the folder does not say who is champion, or InvalidModel.
    """
    if champion.is_dir():
        name, path, said = _of_endpoint(champion)
    else:
        name, path, said = "1", champion, {}
    return proposed_beside(found, inspect_file(path), said, champion=name, version=version)


def proposed_beside(
    found: Inspection, other: Inspection, said: dict[str, Any], *, champion: str, version: str
) -> Proposal:
    """For a model beside the champion `other`, of which the endpoint file says `said`."""
    against = _found(other)
    base = Proposal(said, {}) if said else propose(against)
    matched = match(against, _found(found))
    classes = endpoint_classes(against, _found(found))
    return _with_section(base, matched, champion=champion, version=version, classes=classes)


def rendered(name: str, found: Inspection, proposal: Proposal) -> str:
    """The file. Its head says what was found, its comments what was guessed."""
    lines = [f"# {name}: sha256 {found.digest}"]
    lines += [_line("reads", spec) for spec in found.signature.inputs]
    lines += [_line("writes", spec) for spec in found.signature.outputs]
    lines.append(f"# runs {'in batches' if found.batches else 'one row at a time'}")
    keys = sorted(proposal.document, key=lambda k: _ORDER.index(k) if k in _ORDER else len(_ORDER))
    for key in keys:
        lines += [f"# {comment}" for comment in proposal.comments.get(key, ())]
        value = {key: proposal.document[key]}
        lines.append(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=96).rstrip())
    return "\n".join(lines) + "\n"


def _line(verb: str, spec: TensorSpec) -> str:
    return f"# {verb} {spec.name!r}: {spec.datatype} {list(spec.shape)}"


def _found(found: Inspection) -> Found:
    return Found(signature=found.signature, classes=found.classes, squashed=found.squashed)


def _of_endpoint(folder: Path) -> tuple[str, Path, dict[str, Any]]:
    """The champion of an endpoint's folder, its file, and what its endpoint file says."""
    repository = ModelRepository(folder.parent)
    path = repository.endpoint_file(folder.name)
    file = load_endpoint_file(path) if path.exists() else EndpointFile()
    said = (read_yaml(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}
    versions = repository.versions(folder.name)
    champion = file.champion or (versions[0] if len(versions) == 1 else "")
    if champion not in versions:
        raise InvalidSetting(
            f"{path}: champion: say which of the versions it is ({', '.join(versions) or 'none'})"
        )
    return champion, folder / champion / MODEL_FILE, said


def _with_section(
    base: Proposal, found: Match, *, champion: str, version: str, classes: list[Any]
) -> Proposal:
    document = {"champion": champion, **base.document}
    for key, declared in (("inputs", found.inputs), ("outputs", found.outputs)):
        if declared:
            document[key] = {**declared, **_plain(document.get(key))}
    if "classes" in found.section:
        document["prediction"] = {"classes": classes, **document.get("prediction", {})}
    versions = {str(known): one for known, one in document.get("versions", {}).items()}
    document["versions"] = {**versions, version: found.section}
    doubts = [f"doubt: {doubt}" for doubt in found.doubts]
    comments = {**base.comments, "versions": doubts or ["nothing of the new version is in doubt"]}
    return msgspec.structs.replace(base, document=document, comments=comments)


def _plain(section: Any) -> dict[str, Any]:
    """A section of names, written as a list or a mapping."""
    if isinstance(section, list):
        return {name: {} for name in section}
    return section or {}
