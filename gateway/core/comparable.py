"""Whether two versions of an endpoint can be compared on the same requests at all.

Asked when a version is challenged, because then both run on each request. Rules: what would
compare apples with pears is Refused with the reason, never judged in silence.
"""

from __future__ import annotations

from gateway.core.routes import Rollout, VersionFacts, shared_inputs
from gateway.core.tensors import TensorSpec
from gateway.errors import Refused


def require_comparable(rollout: Rollout, champion: str, challenger: str) -> None:
    """Raise Refused unless both can be run on one request and their answers mean the same."""
    versions = [rollout.versions[name] for name in (champion, challenger)]
    shared_inputs((*(rollout.versions[v] for v in rollout.serving()), versions[1]))
    _require_declared_inputs(rollout, versions[1])
    _require_same_outputs(rollout, *versions)
    _require_same_prediction(rollout, *versions)
    for reader, writer in (versions[::-1], versions):
        _require_own_state(rollout, reader, writer)


def require_same_file(rollout: Rollout, facts: VersionFacts) -> None:
    """Raise Refused where the version is known, and known as another file than that of `facts`."""
    known = rollout.versions.get(facts.version)
    if known is not None and known.digest != facts.digest:
        raise Refused(
            f"the file of version {facts.version}, or its mapping, is not the one that was added "
            f"(digest {facts.digest[:12]}… instead of {known.digest[:12]}…); versions are "
            "immutable"
        )


def prediction_spec(rollout: Rollout, version: str) -> TensorSpec | None:
    """The output that is the prediction of `version`; None where it has none of that name."""
    outputs = rollout.versions[version].signature.outputs
    name = rollout.rules.prediction.output_of(version) or outputs[0].name
    return next((spec for spec in outputs if spec.name == name), None)


def _require_declared_inputs(rollout: Rollout, facts: VersionFacts) -> None:
    for spec in facts.signature.inputs if rollout.rules.inputs else ():
        declared = rollout.rules.inputs.get(spec.name)
        if declared is None or (declared.datatype, declared.shape) != (spec.datatype, spec.shape):
            raise Refused(
                f"version {facts.version} reads {spec.name} as {spec.datatype} {list(spec.shape)}, "
                "which the endpoint file does not declare so; add the file as a new version"
            )


def _require_same_outputs(rollout: Rollout, champion: VersionFacts, other: VersionFacts) -> None:
    given = {spec.name: spec for spec in champion.signature.outputs}
    found = {spec.name: spec for spec in other.signature.outputs}
    for name in rollout.rules.outputs:
        one, two = given.get(name), found.get(name)
        if one is None or two is None:
            lacking = champion.version if one is None else other.version
            raise Refused(f"version {lacking} does not answer the declared output {name}")
        if one.datatype != two.datatype or len(one.shape) != len(two.shape):
            raise Refused(
                f"output {name}: version {other.version} answers {two.datatype} {list(two.shape)}, "
                f"version {champion.version} {one.datatype} {list(one.shape)}; map one of them"
            )


def _require_same_prediction(rollout: Rollout, champion: VersionFacts, other: VersionFacts) -> None:
    one, two = (prediction_spec(rollout, facts.version) for facts in (champion, other))
    if two is None:
        raise Refused(
            f"version {other.version} answers no output that prediction.output names; it answers "
            f"{', '.join(other.signature.output_names)}"
        )
    if one is not None and (one.datatype == "BYTES") != (two.datatype == "BYTES"):
        raise Refused(
            f"output {two.name} of version {other.version} is {two.datatype} and output {one.name} "
            f"of version {champion.version} {one.datatype}; text is compared with text only: "
            "declare a datatype in the file's `outputs`, and prediction.classes"
        )
    _require_same_width(rollout, (champion, one), (other, two))


def _require_same_width(
    rollout: Rollout,
    champion: tuple[VersionFacts, TensorSpec | None],
    other: tuple[VersionFacts, TensorSpec],
) -> None:
    reading = rollout.rules.prediction.reading_of
    widths = []
    for facts, spec in (champion, other):
        if spec is not None and reading(facts.version) == "scores" and len(spec.shape) == 2:
            widths.append((spec.shape[1], facts.version))
    if len(widths) == 2 and widths[0][0] != widths[1][0] and min(widths)[0] > 0:
        raise Refused(
            f"version {widths[1][1]} gives scores of {widths[1][0]} classes and version "
            f"{widths[0][1]} of {widths[0][0]}; they are no versions of one task"
        )


def _require_own_state(rollout: Rollout, reader: VersionFacts, writer: VersionFacts) -> None:
    state = rollout.rules.state
    read = {spec.name for spec in reader.signature.inputs}
    written = set(writer.signature.output_names)
    for name, output in state.tensors.items():
        if name in read and output in written and not state.exchangeable:
            raise Refused(
                f"version {reader.version} reads the state {name}, and a request brings the one "
                f"that version {writer.version} wrote as {output}: what follows says nothing of "
                f"version {reader.version}. Say `exchangeable: true` in the file's `state` if "
                "their states mean the same, or map the input to a tensor of its own"
            )
