"""What a worker serves right now: immutable snapshots that are swapped whole.

A request takes one `Table` when it begins and keeps it; a flip in between changes nothing
for it. That is why a flip can never fail a request.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.core.records import Exclusion
from gateway.core.routes import Rollout, shared_inputs
from gateway.core.split import WHOLE_BP
from gateway.core.tensors import Signature, TensorSpec
from gateway.runtimes.onnx import INLINE_BUDGET_US, OnnxModel


class ServedVersion:
    """A loaded version, its role at this epoch, and what its runs have shown."""

    __slots__ = ("answers", "digest", "inline", "model", "propensity_bp", "role", "version")

    def __init__(
        self,
        model: OnnxModel,
        *,
        role: str,
        propensity_bp: int,
        answers: Signature | None = None,
    ) -> None:
        """`answers` is what clients see of it; None: all that it gives."""
        self.model = model
        self.answers = model.facts.signature if answers is None else answers
        self.version = model.facts.version
        self.digest = model.facts.digest
        #: Whether any run of it may be made on the event loop.
        self.inline = model.facts.inline and model.predicted_us(1) <= INLINE_BUDGET_US
        self.role = role
        self.propensity_bp = propensity_bp


class Table:
    """One endpoint at one epoch, ready to serve."""

    __slots__ = (
        "batched", "exclusion", "inputs", "only", "rollout", "rules", "salt", "seen_by", "versions",
    )  # fmt: skip

    def __init__(self, rollout: Rollout, models: Mapping[str, OnnxModel]) -> None:
        """`models` holds the loaded models by digest."""
        self.rollout = rollout
        self.rules = rollout.rules
        self.salt = rollout.salt.encode()[:64]
        self.versions = {
            version: ServedVersion(
                models[rollout.versions[version].digest],
                role=rollout.role(version),
                propensity_bp=rollout.split.get(version, 0),
                answers=_answers(rollout, version),
            )
            for version in rollout.serving()
        }
        self.inputs = _declared_inputs(rollout)
        #: Whether dimension 0 of every input counts rows.
        self.batched = all(spec.has_rows for spec in self.inputs.values())
        whole = [v for v, weight_bp in rollout.split.items() if weight_bp == WHOLE_BP]
        #: The version that answers everybody, if one does: then nothing is hashed.
        self.only = self.versions[whole[0]] if whole else None
        #: Why no prediction of the endpoint is judged, if none is.
        self.exclusion: Exclusion = "not_captured" if rollout.rules.capture_inputs == "none" else ""
        #: Key and share of each shadow that inputs are captured for; None: all are captured.
        self.seen_by = None if rollout.rules.capture_inputs == "all" else _shadows(rollout)


def _declared_inputs(rollout: Rollout) -> dict[str, TensorSpec]:
    """What a request may carry: clients send the union before the next challenger comes."""
    specs = shared_inputs(rollout.versions[version] for version in rollout.serving())
    for facts in rollout.versions.values():
        for spec in facts.signature.inputs:
            specs.setdefault(spec.name, spec)
    for name, declared in rollout.rules.inputs.items():
        specs.setdefault(name, TensorSpec(name, declared.datatype, declared.shape))
    for name in rollout.rules.allow_missing:
        if name in specs:
            specs[name] = msgspec.structs.replace(specs[name], allow_missing=True)
    return specs


def _answers(rollout: Rollout, version: str) -> Signature | None:
    """The outputs that the endpoint declares, in its order; None where it declares none."""
    signature, declared = rollout.versions[version].signature, rollout.rules.outputs
    if not declared:
        return None
    known = {spec.name: spec for spec in signature.outputs}
    outputs = tuple(known[name] for name in declared if name in known)
    return msgspec.structs.replace(signature, outputs=outputs)


def _shadows(rollout: Rollout) -> tuple[tuple[bytes, int], ...]:
    if rollout.rules.capture_inputs == "none":
        return ()
    return tuple(
        (bytes.fromhex(one.registration_digest), one.probability_bp)
        for one in rollout.challengers.values()
    )


class Routes:
    """The tables of a worker by endpoint, and the exact paths that lead to them."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}

    def swap(self, table: Table) -> None:
        """Put a new table in place; requests under way keep the one they have."""
        self.tables = {**self.tables, table.rollout.endpoint: table}
