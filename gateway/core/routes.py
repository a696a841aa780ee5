"""What an endpoint serves at one epoch: facts that a worker needs, immutable.

A `Rollout` is the whole state of an endpoint. It is written to the control store under its
epoch and never changed, so a journalled epoch says for ever who was champion, who was in
shadow with which probability, and by which rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from gateway.core.mapping import Mapping
from gateway.core.tensors import Shape, Signature, TensorSpec
from gateway.errors import Refused

Phase = Literal["solo", "shadow", "live"]
Reading = Literal["probability", "class", "scores", "value"]
Task = Literal["binary", "multiclass", "regression"]
#: Of which predictions the journal keeps the inputs; `sampled`: those that a shadow sees.
Captured = Literal["all", "sampled", "none"]


#: A class as labels name it.
ClassName = int | str


class VersionReading(msgspec.Struct, frozen=True):
    """How one version's prediction is read where that differs; None: as the endpoint's."""

    reading: Reading | None = None
    threshold: float | None = None


class PredictionReading(msgspec.Struct, frozen=True):
    """Which output is the prediction, by version, and how its numbers are read.

    `classes` are in the order of the endpoint's columns and numbers: all texts or all numbers.
    """

    output: str | dict[str, str] | None = None  # None: the first output
    reading: Reading = "probability"
    threshold: float = 0.5
    classes: tuple[ClassName, ...] = ()
    versions: dict[str, VersionReading] = {}

    def output_of(self, version: str) -> str | None:
        """The name of the output that holds the prediction of `version`."""
        if isinstance(self.output, dict):
            return self.output.get(version)
        return self.output

    def reading_of(self, version: str) -> Reading:
        """How the prediction of `version` is read."""
        own = self.versions.get(version)
        return self.reading if own is None or own.reading is None else own.reading

    def threshold_of(self, version: str) -> float:
        """From which probability on `version` decides for class 1."""
        own = self.versions.get(version)
        return self.threshold if own is None or own.threshold is None else own.threshold


class EntityRule(msgspec.Struct, frozen=True):
    """What is one statistical observation; `window_s` opens at its first row."""

    source: Literal["row", "parameter"] = "row"
    window_s: int = 0


class PolicyRules(msgspec.Struct, frozen=True):
    """What a challenger must show; copied into its registration when it is challenged."""

    metric: str = "zero_one"
    margin: float = 0.0
    minimum_effect: float = 0.01
    alpha: float = 0.05
    beta: float = 0.1
    error_control: Literal["e_lond", "each"] = "e_lond"
    min_duration_s: int = 7 * 86_400
    min_entities: int = 30
    missing_labels: Literal["worst_case", "missing_at_random"] = "worst_case"
    approval: Literal["manual", "automatic"] = "manual"
    scale: float = 1.0


class DeclaredInput(msgspec.Struct, frozen=True):
    """A tensor that clients send, as the endpoint file declares it; `columns` name dimension 1."""

    datatype: str
    shape: Shape
    columns: tuple[str, ...] = ()


class StateRules(msgspec.Struct, frozen=True):
    """State that clients carry: input → the output that the next request sends back in it."""

    tensors: dict[str, str] = {}
    exchangeable: bool = False  # whether a version may go on from the state of another


class EndpointRules(msgspec.Struct, frozen=True):
    """The endpoint file, validated; part of every epoch."""

    task: Task = "binary"
    event_time: Literal["accepted", "client"] = "accepted"
    clock_tolerance_s: int = 86_400
    prediction: PredictionReading = PredictionReading()
    maturity_s: int = 86_400
    entity: EntityRule = EntityRule()
    slices: tuple[str, ...] = ()
    allow_pinned: bool = False
    allow_missing: tuple[str, ...] = ()
    sample_bp: int = 10_000
    durability: Literal["process", "disk"] = "process"
    time_limit_ms: int = 10_000
    policy: PolicyRules = PolicyRules()
    capture_inputs: Captured = "all"
    inputs: dict[str, DeclaredInput] = {}  # empty: what the versions read
    outputs: dict[str, str] = {}  # name → datatype, "" for any; empty: what the versions answer
    state: StateRules = StateRules()
    max_batch_rows: int = 32
    max_queue_ms: int | None = None  # None: time_limit_ms


class VersionFacts(msgspec.Struct, frozen=True):
    """One immutable model version. `path` is relative to the model repository.

    `signature` and `digest` are those of the version as the endpoint sees it: of its file, and
    of its mapping where it has one. `file_digest` is empty where the two are the same.
    """

    version: str
    digest: str
    path: str
    signature: Signature
    batches: bool  # dimension 0 is dynamic and the self-test of batching passed
    inline: bool  # the graph holds no Loop, Scan or If, so it may run on the event loop
    external: tuple[str, ...] = ()  # files beside the model that hold weights of it
    mapping: Mapping | None = None
    file_digest: str = ""

    @property
    def own(self) -> Signature:
        """What the file itself reads and writes."""
        return self.signature if self.mapping is None else self.mapping.signature

    def mapped(self, mapping: Mapping, signature: Signature) -> VersionFacts:
        """The facts of this file as it is served through `mapping`."""
        return msgspec.structs.replace(
            self,
            digest=mapping.digest(self.digest),
            signature=signature,
            mapping=mapping,
            file_digest=self.digest,
        )

    def unmapped(self) -> VersionFacts:
        """The facts of the file alone."""
        if self.mapping is None:
            return self
        return msgspec.structs.replace(
            self, digest=self.file_digest, signature=self.own, mapping=None, file_digest=""
        )


class Challenger(msgspec.Struct, frozen=True):
    """A version under registration; `probability_bp` is the share that its shadow sees."""

    version: str
    registration: int
    registration_digest: str
    probability_bp: int


class Rollout(msgspec.Struct, frozen=True):
    """The state of an endpoint at one epoch."""

    endpoint: str
    epoch: int
    phase: Phase
    champion: str
    previous: str | None
    split: dict[str, int]
    challengers: dict[str, Challenger]
    versions: dict[str, VersionFacts]
    rules: EndpointRules
    salt: str

    def role(self, version: str) -> str:
        """champion, challenger or previous; what a version is, the file never says."""
        if version == self.champion:
            return "champion"
        return "challenger" if version in self.challengers else "previous"

    def serving(self) -> tuple[str, ...]:
        """The versions that every worker must hold loaded."""
        extra = () if self.previous is None else (self.previous,)
        return tuple(dict.fromkeys((self.champion, *self.challengers, *extra)))


def shared_inputs(versions: Iterable[VersionFacts]) -> dict[str, TensorSpec]:
    """Every input that one of the versions reads: what a request to the endpoint may carry.

    Raises Refused when two versions read an input of one name in different ways, because one
    request has to serve all of them.
    """
    union: dict[str, TensorSpec] = {}
    for facts in versions:
        for spec in facts.signature.inputs:
            known = union.setdefault(spec.name, spec)
            if (known.datatype, known.shape) != (spec.datatype, spec.shape):
                raise Refused(
                    f"version {facts.version} reads input {spec.name} as {spec.datatype} "
                    f"{list(spec.shape)}, others read it as {known.datatype} "
                    f"{list(known.shape)}; give the input another name"
                )
    return union
