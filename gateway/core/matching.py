"""Which tensors of two versions are the same thing under other names: a proposal for a mapping.

Rules: a proposal, with its doubts; what cannot be matched is said, never made up. The champion's
names are those that clients know, so they become the endpoint's.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.core.binding import is_lossless
from gateway.core.proposal import Found, classes_for, prediction_of, state_pairs
from gateway.core.tensors import Signature, TensorSpec


class Match(msgspec.Struct, frozen=True):
    """The section of the new version, the classes of the endpoint, and what is in doubt.

    `inputs` and `outputs` are the endpoint's declarations that the section needs.
    """

    section: dict[str, Any]
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    doubts: list[str]


def match(champion: Found, version: Found) -> Match:
    """How `version` would stand in for `champion`."""
    sources, doubts = _inputs(champion.signature, version.signature)
    outputs, more = _outputs(champion, version)
    section: dict[str, Any] = {}
    declared: dict[str, Any] = {}
    if any(name != source or lossy for name, (source, lossy) in sources.items()):
        section["inputs"] = {
            name: {"from": source, "lossy": True} if lossy else source
            for name, (source, lossy) in sources.items()
        }
    if _differ(champion.signature, version.signature, sources):
        declared = _declared(champion.signature, version.signature, sources)
    answers: dict[str, Any] = {}
    if any((name, False) != source for name, source in outputs.items()):
        section["outputs"] = {
            name: {"from": source, "lossy": True} if lossy else source
            for name, (source, lossy) in outputs.items()
        }
        given = {spec.name: spec.datatype for spec in champion.signature.outputs}
        answers = {name: {"datatype": given[name]} for name in outputs}
    _add_classes(section, champion, version, doubts)
    return Match(section, declared, answers, [*doubts, *more])


def _inputs(
    champion: Signature, version: Signature
) -> tuple[dict[str, tuple[str, bool]], list[str]]:
    sources: dict[str, tuple[str, bool]] = {}
    doubts = []
    left = list(champion.inputs)
    for spec in version.inputs:
        found = _nearest(spec, left)
        if found is None:
            sources[spec.name] = (spec.name, False)
            doubts.append(f"nothing of the champion's feeds {spec.name}; clients must send it too")
            continue
        left.remove(found)
        same = found.datatype == spec.datatype or is_lossless(found.datatype, spec.datatype)
        sources[spec.name] = (found.name, not same)
        if not same:
            doubts.append(f"{found.name}: {found.datatype} to {spec.datatype} can lose digits")
        if found.name != spec.name:
            doubts.append(f"is {spec.name} the champion's {found.name}, column by column?")
    return sources, doubts


def _outputs(champion: Found, version: Found) -> tuple[dict[str, tuple[str, bool]], list[str]]:
    ours = prediction_of(champion, state_pairs(champion.signature))
    theirs = prediction_of(version, state_pairs(version.signature))
    doubts = []
    if (ours.task, ours.reading) != (theirs.task, theirs.reading):
        doubts.append(
            f"{ours.spec.name} reads as {ours.task} {ours.reading}, {theirs.spec.name} as "
            f"{theirs.task} {theirs.reading}: are these versions of one task?"
        )
    given, wanted = theirs.spec.datatype, ours.spec.datatype
    lossy = given != wanted and not is_lossless(given, wanted) and "BYTES" not in (given, wanted)
    matched = {ours.spec.name: (theirs.spec.name, lossy)}
    left = [spec for spec in version.signature.outputs if spec.name != theirs.spec.name]
    for spec in champion.signature.outputs:
        found = None if spec.name in matched else _nearest(spec, left)
        if found is not None and found.datatype == spec.datatype:
            left.remove(found)
            matched[spec.name] = (found.name, False)
        elif spec.name not in matched:
            doubts.append(f"nothing of this version answers {spec.name}; it is left out")
    order = [name for name in champion.signature.output_names if name in matched]
    return {name: matched[name] for name in order}, doubts


def _add_classes(
    section: dict[str, Any], champion: Found, version: Found, doubts: list[str]
) -> None:
    ours, theirs = champion.classes, version.classes
    if not ours or ours == theirs:
        return
    if not theirs:
        doubts.append(
            f"this version names no classes; are its columns {list(ours)}? if not: classes"
        )
    elif sorted(map(str, ours)) == sorted(map(str, theirs)):
        section["classes"] = list(theirs)
    else:
        doubts.append(f"the champion's classes are {list(ours)}, this version's {list(theirs)}")


def endpoint_classes(champion: Found, version: Found) -> list[Any]:
    """The order that the endpoint must name before a version can have another."""
    guess = prediction_of(champion, state_pairs(champion.signature))
    differs = champion.classes != version.classes
    return list(champion.classes if differs else classes_for(champion, guess))


def _nearest(spec: TensorSpec, among: Sequence[TensorSpec]) -> TensorSpec | None:
    """The tensor of the same name, or else the one of that shape whose name is most like it."""
    for other in among:
        if other.name == spec.name:
            return other
    fitting = [o for o in among if _fits(spec, o)]
    if not fitting:
        return None
    return max(fitting, key=lambda o: difflib.SequenceMatcher(None, spec.name, o.name).ratio())


def _fits(spec: TensorSpec, other: TensorSpec) -> bool:
    if len(spec.shape) != len(other.shape):
        return False
    if (spec.datatype == "BYTES") != (other.datatype == "BYTES"):
        return False
    return all(a in (-1, b) for a, b in zip(spec.shape, other.shape, strict=True))


def _differ(champion: Signature, version: Signature, sources: dict[str, tuple[str, bool]]) -> bool:
    """Whether an input is read in two ways, so that it has to be declared."""
    ours = {spec.name: spec for spec in champion.inputs}
    for spec in version.inputs:
        known = ours.get(sources[spec.name][0])
        if known is not None and (known.datatype, known.shape) != (spec.datatype, spec.shape):
            return True
    return False


def _declared(
    champion: Signature, version: Signature, sources: dict[str, tuple[str, bool]]
) -> dict[str, Any]:
    """All inputs of the endpoint: the champion's, and what only this version reads."""
    ours = {spec.name: spec for spec in champion.inputs}
    new = {s.name: s for s in version.inputs if sources[s.name][0] not in ours}
    return {
        name: {"datatype": spec.datatype, "shape": list(spec.shape)}
        for name, spec in {**ours, **new}.items()
    }
