"""The sections of an endpoint file that say how versions differ: tensors, classes, state.

What is read here is the form; whether it fits a model is looked at where the model is known
(core/binding.py). A section that may be written short, such as a name instead of a mapping, is
brought into its long form before it is validated, so that every complaint has one path.
"""

from __future__ import annotations

from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from gateway.core.binding import Source, VersionRules
from gateway.core.nearest import did_you_mean
from gateway.core.routes import ClassName, DeclaredInput, Reading, StateRules
from gateway.core.tensors import DATATYPES

_NAME_LENGTH = 256
_DIMENSION = 2**31 - 1


class Strict(BaseModel):
    """A section: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _version_name(value: object) -> object:
    """YAML reads `champion: 1` as a number; a version is a name."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _class_name(value: object) -> ClassName:
    if isinstance(value, bool):
        raise ValueError("YAML reads yes, no, on, off as true or false; put the class in quotes")
    if isinstance(value, int) or (isinstance(value, str) and value):
        return value
    raise ValueError("a class is a text or a whole number")


def _known_datatype(value: object) -> str:
    if isinstance(value, str) and value in DATATYPES:
        return value
    near = did_you_mean(str(value)[:20].upper(), DATATYPES)
    raise ValueError(f"a datatype is one of {', '.join(DATATYPES)}{near}")


def _one_source(value: object) -> object:
    return {"from": value} if isinstance(value, str) else value


def _sources(value: object) -> object:
    """`name`, `{from: name}` or `{join: [...]}` as a list of sources."""
    if isinstance(value, dict) and "join" in value:
        if len(value) > 1:
            raise ValueError("`join` stands alone; say columns and lossy of each that is joined")
        value = value["join"]
        return [_one_source(one) for one in value] if isinstance(value, list) else value
    return [_one_source(value)]


def _outputs(value: object) -> object:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return {name: {} for name in value}
    return value


VersionName = Annotated[str, BeforeValidator(_version_name)]
Class = Annotated[ClassName, PlainValidator(_class_name)]
DatatypeName = Annotated[str, PlainValidator(_known_datatype)]
TensorName = Annotated[str, Field(min_length=1, max_length=_NAME_LENGTH)]


class InputSection(Strict):
    """A tensor that clients send, where versions read it in different ways."""

    datatype: DatatypeName
    shape: tuple[Annotated[int, Field(ge=-1, le=_DIMENSION)], ...] | None = None
    columns: tuple[TensorName, ...] = ()

    def declared(self) -> DeclaredInput:
        """Its datatype, shape and columns."""
        shape = (-1, len(self.columns)) if self.shape is None else self.shape
        return DeclaredInput(self.datatype, shape, self.columns)


class OutputSection(Strict):
    """An output that clients see, whichever version answers."""

    datatype: DatatypeName | None = None


class InputSource(Strict):
    """A tensor of the request, or some of its columns."""

    source: TensorName = Field(alias="from")
    columns: tuple[Class, ...] | None = None
    lossy: bool = False


class OutputSource(Strict):
    """An output of the model."""

    source: TensorName = Field(alias="from")
    lossy: bool = False


class StateSection(Strict):
    """State that clients carry from one answer into the next request."""

    tensors: dict[TensorName, TensorName] = Field(min_length=1)
    exchangeable: bool = False


class VersionSection(Strict):
    """How one version differs from what clients see."""

    inputs: dict[
        TensorName,
        Annotated[tuple[InputSource, ...], Field(min_length=1), BeforeValidator(_sources)],
    ] = Field({})
    outputs: dict[TensorName, Annotated[OutputSource, BeforeValidator(_one_source)]] = Field({})
    classes: tuple[Class, ...] = ()
    reading: Reading | None = None
    threshold: float | None = Field(None, ge=0, le=1)

    def rules(self) -> VersionRules:
        """What binds the version's tensors."""
        return VersionRules(
            inputs={
                name: tuple(Source(one.source, one.columns, one.lossy) for one in sources)
                for name, sources in self.inputs.items()
            },
            outputs={
                name: Source(one.source, None, one.lossy) for name, one in self.outputs.items()
            },
            classes=self.classes,
        )


Inputs = dict[TensorName, InputSection]
Outputs = Annotated[dict[TensorName, OutputSection], BeforeValidator(_outputs)]
Versions = dict[VersionName, VersionSection]


def state_rules(section: StateSection | None) -> StateRules:
    """The section, or that there is no state."""
    return StateRules() if section is None else StateRules(section.tensors, section.exchangeable)


def keys_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The keys that a file may have below `path`, through mappings and lists."""
    annotation: Any = model
    for part in path:
        annotation = _below(annotation, part)
    section = section_in(annotation)
    if section is None:
        return []
    return [field.alias or name for name, field in section.model_fields.items()]


def _below(annotation: Any, part: int | str) -> Any:
    section = section_in(annotation)
    if section is not None:
        fields = {field.alias or name: field for name, field in section.model_fields.items()}
        return fields[str(part)].annotation
    return values_of(annotation)


def values_of(annotation: Any) -> Any:
    """What a mapping or a list is of; None where the annotation is of neither."""
    inner = _unwrapped(annotation)
    place = {dict: 1, tuple: 0}.get(get_origin(inner))
    return None if place is None else get_args(inner)[place]


def section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that an annotation is or may be, such as `Section | None`."""
    inner = _unwrapped(annotation)
    choices = (inner,) if get_origin(inner) in (None, dict, tuple) else get_args(inner)
    found = [c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)]
    return found[0] if found else None


def _unwrapped(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
