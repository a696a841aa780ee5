"""An endpoint's file: what one endpoint is configured to be.

The only reader of it. Whatever is wrong is said with the key's name, what was found and the
nearest key that exists; nothing unknown is ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from gateway.config_values import Seconds, Share, complaints
from gateway.core.binding import VersionRules
from gateway.core.routes import (
    Captured,
    EndpointRules,
    EntityRule,
    PolicyRules,
    PredictionReading,
    Reading,
    Task,
    VersionReading,
)
from gateway.core.split import WHOLE_BP
from gateway.endpoint_checks import (
    impossible_classes,
    impossible_inputs,
    impossible_metric,
    impossible_readings,
    impossible_state,
)
from gateway.endpoint_sections import (
    Class,
    Inputs,
    Outputs,
    StateSection,
    Strict,
    VersionName,
    Versions,
    keys_at,
    state_rules,
)
from gateway.errors import InvalidSetting
from gateway.strict_yaml import read_yaml

_DAY_MS = 86_400_000
_FILE_LIMIT_BYTES = 1 << 20


class PredictionSection(Strict):
    """Which output is the prediction, and how its numbers are read."""

    output: str | dict[VersionName, str] | None = None
    reading: Reading = "probability"
    threshold: float = Field(0.5, ge=0, le=1)
    classes: tuple[Class, ...] = ()


class LabelsSection(Strict):
    """When a label counts: at most `maturity` after the prediction."""

    maturity: Seconds = 86_400


class EntitySection(Strict):
    """What is one statistical observation: a request parameter, over a window."""

    source: Literal["parameter"] = Field(alias="from")
    window: Annotated[Seconds, Field(ge=1)]


class PolicySection(Strict):
    """What a challenger must show before it is promoted."""

    metric: str = "zero_one"
    margin: float = Field(0.0, ge=0, lt=1)
    minimum_effect: float = Field(0.01, gt=0, lt=1)
    alpha: float = Field(0.05, gt=0, lt=1)
    beta: float = Field(0.1, gt=0, lt=1)
    error_control: Literal["e_lond", "each"] = "e_lond"
    min_duration: Seconds = 7 * 86_400
    min_entities: int = Field(30, ge=1)
    missing_labels: Literal["worst_case", "missing_at_random"] = "worst_case"
    approval: Literal["manual", "automatic"] = "manual"
    scale: float = Field(1.0, gt=0, allow_inf_nan=False)


class ShadowSection(Strict):
    """Which share of the predictions a new challenger's shadow sees."""

    sample: Share = WHOLE_BP


class CaptureSection(Strict):
    """Of which predictions the journal keeps the inputs. Outputs are always kept."""

    inputs: Captured = "all"


class EndpointFile(Strict):
    """`models/<endpoint>/endpoint.yaml`."""

    champion: VersionName | None = None
    task: Task = "binary"
    event_time: Literal["accepted", "client"] = "accepted"
    clock_tolerance: Seconds = 86_400
    prediction: PredictionSection = PredictionSection()
    labels: LabelsSection = LabelsSection()
    entity: EntitySection | None = None
    slices: tuple[str, ...] = ()
    allow_pinned: bool = False
    allow_missing: tuple[str, ...] = ()
    shadow: ShadowSection = ShadowSection()
    capture: CaptureSection = CaptureSection()
    durability: Literal["process", "disk"] = "process"
    time_limit_ms: int = Field(10_000, ge=1, le=_DAY_MS)
    max_batch_rows: int = Field(32, ge=1, le=4096)
    max_queue_ms: int | None = Field(None, ge=1, le=_DAY_MS)
    policy: PolicySection = PolicySection()
    inputs: Inputs = Field({})
    outputs: Outputs = Field({})
    state: StateSection | None = None
    versions: Versions = Field({})

    def version(self, version: str) -> VersionRules:
        """How the tensors of one version stand for the endpoint's."""
        section = self.versions.get(version)
        return VersionRules() if section is None else section.rules()

    def rules(self) -> EndpointRules:
        """The file as the rules that every process works by."""
        policy = self.policy
        return EndpointRules(
            task=self.task,
            event_time=self.event_time,
            clock_tolerance_s=self.clock_tolerance,
            prediction=PredictionReading(
                **self.prediction.model_dump(), versions=self._version_readings()
            ),
            maturity_s=self.labels.maturity,
            entity=EntityRule("parameter", self.entity.window) if self.entity else EntityRule(),
            slices=self.slices,
            allow_pinned=self.allow_pinned,
            allow_missing=self.allow_missing,
            sample_bp=self.shadow.sample,
            capture_inputs=self.capture.inputs,
            inputs={name: section.declared() for name, section in self.inputs.items()},
            outputs={name: one.datatype or "" for name, one in self.outputs.items()},
            state=state_rules(self.state),
            durability=self.durability,
            time_limit_ms=self.time_limit_ms,
            max_batch_rows=self.max_batch_rows,
            max_queue_ms=self.max_queue_ms,
            policy=PolicyRules(
                min_duration_s=policy.min_duration, **policy.model_dump(exclude={"min_duration"})
            ),
        )

    def _version_readings(self) -> dict[str, VersionReading]:
        return {
            version: VersionReading(section.reading, section.threshold)
            for version, section in self.versions.items()
            if section.reading is not None or section.threshold is not None
        }


def load_endpoint_file(path: Path) -> EndpointFile:
    """Read an endpoint file. Raises InvalidSetting that names file, key and remedy."""
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_LIMIT_BYTES + 1)
        return parse_endpoint_file(content.decode(), source=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{path}: cannot be read: {error}") from error


def parse_endpoint_file(text: str, *, source: str) -> EndpointFile:
    """Parse the text of an endpoint file; `source` is how messages call it."""
    if len(text) > _FILE_LIMIT_BYTES:
        raise InvalidSetting(f"{source}: larger than 1 MiB, which no endpoint file is")
    try:
        content = read_yaml(text)
    except ValueError as error:
        raise InvalidSetting(f"{source}: no YAML: {error}") from error
    try:
        file = EndpointFile.model_validate({} if content is None else content)
    except ValidationError as error:
        raise InvalidSetting(
            f"{source}: {complaints(error, keys_at=partial(keys_at, EndpointFile))}"
        ) from error
    for key, requirement in _impossible(file):
        raise InvalidSetting(f"{source}: {key}: {requirement}")
    return file


def _impossible(file: EndpointFile) -> Iterator[tuple[str, str]]:
    """Keys whose values are fine alone, and cannot be together."""
    if file.policy.minimum_effect <= file.policy.margin:
        yield "policy.minimum_effect", f"must lie above policy.margin ({file.policy.margin})"
    if file.max_queue_ms is not None and file.max_queue_ms > file.time_limit_ms:
        yield "max_queue_ms", f"must not exceed time_limit_ms ({file.time_limit_ms})"
    readings = list(_readings(file))
    yield from impossible_metric(file.policy.metric, file.task, readings)
    yield from impossible_readings(readings, file.prediction.classes, file.task)
    yield from impossible_inputs(file.inputs)
    yield from impossible_state(file.state, file.prediction.output)
    yield from impossible_classes("prediction.classes", file.prediction.classes)
    for version, section in file.versions.items():
        yield from impossible_classes(f"versions.{version}.classes", section.classes)


def _readings(file: EndpointFile) -> Iterator[tuple[str, Reading]]:
    yield "prediction.reading", file.prediction.reading
    for version, section in file.versions.items():
        if section.reading is not None:
            yield f"versions.{version}.reading", section.reading
