"""From what an endpoint file says of a version to its checked mapping.

Rules: pure, and strict. A mapping that is accepted here cannot fail later but for the values of
a request. A version that maps nothing has no mapping at all, so that the ordinary version is
known by its file alone. Every refusal is InvalidSetting with the key of the endpoint file, what
is there, and the nearest name.
"""

from __future__ import annotations

import msgspec
import numpy as np

from gateway.core.class_order import bind_classes
from gateway.core.mapping import InputMap, InputPart, Mapping, OutputMap
from gateway.core.nearest import did_you_mean, listed
from gateway.core.routes import ClassName, EndpointRules, VersionFacts
from gateway.core.tensors import DATATYPES, DYNAMIC, Signature, TensorSpec
from gateway.errors import InvalidSetting


class Source(msgspec.Struct, frozen=True):
    """Where a tensor comes from: a name, and for inputs perhaps some of its columns."""

    name: str
    columns: tuple[ClassName, ...] | None = None
    lossy: bool = False


class VersionRules(msgspec.Struct, frozen=True):
    """The section `versions.<version>`: model input → sources, endpoint's output → source."""

    inputs: dict[str, tuple[Source, ...]] = {}
    outputs: dict[str, Source] = {}
    classes: tuple[ClassName, ...] = ()


def bind(facts: VersionFacts, rules: EndpointRules, section: VersionRules) -> VersionFacts:
    """The facts of a file as the endpoint sees it. `facts` are of the file alone.

    Raises InvalidSetting.
    """
    inputs, sent = _bind_inputs(facts, rules, section)
    outputs, answered = _bind_outputs(facts, rules, section)
    _require_declared(facts, rules, answered)
    signature = Signature(inputs=tuple(sent.values()), outputs=tuple(answered))
    plain = Mapping(facts.signature, *_identity(facts.signature))
    mapping = Mapping(facts.signature, inputs, outputs)
    if mapping == plain and signature == facts.signature:
        return facts
    return facts.mapped(mapping, signature)


def require_unchanged(known: VersionFacts, rules: EndpointRules, section: VersionRules) -> None:
    """Raise InvalidSetting if a known version would be another by what the file says now."""
    if bind(known.unmapped(), rules, section) != known:
        raise InvalidSetting(
            f"versions.{known.version}: version {known.version} was added with another mapping, "
            "and versions are immutable; add the file as a new version, or take the change back"
        )


def _identity(own: Signature) -> tuple[tuple[InputMap, ...], tuple[OutputMap, ...]]:
    return (
        tuple(InputMap(spec.name, (InputPart(spec.name),)) for spec in own.inputs),
        tuple(OutputMap(spec.name, spec.name) for spec in own.outputs),
    )


# -- inputs -----------------------------------------------------------------------------------


def _bind_inputs(
    facts: VersionFacts, rules: EndpointRules, section: VersionRules
) -> tuple[tuple[InputMap, ...], dict[str, TensorSpec]]:
    """What each input of the model is made of, and the tensors of the request that are read."""
    place = f"versions.{facts.version}.inputs"
    own = {spec.name: spec for spec in facts.signature.inputs}
    for name in section.inputs:
        if name not in own:
            raise InvalidSetting(
                f"{place}.{name}: the model has no such input; it reads {listed(own)}"
                + did_you_mean(name, own)
            )
    maps, sent = [], dict[str, TensorSpec]()
    for spec in own.values():
        sources = section.inputs.get(spec.name, (Source(spec.name),))
        where = f"{place}.{spec.name}"
        seen = [_sent(where, one, spec, rules, alone=len(sources) == 1) for one in sources]
        for one, tensor in zip(sources, seen, strict=True):
            _require_same(where, sent.setdefault(tensor.name, tensor), tensor)
            _require_cast(where, tensor.datatype, spec.datatype, lossy=one.lossy)
        parts = tuple(
            InputPart(one.name, _columns(where, one, tensor, rules))
            for one, tensor in zip(sources, seen, strict=True)
        )
        _require_shape(where, parts, seen, spec)
        maps.append(InputMap(spec.name, parts))
    return tuple(maps), sent


def _sent(
    where: str, source: Source, spec: TensorSpec, rules: EndpointRules, *, alone: bool
) -> TensorSpec:
    """The tensor that clients send: as declared, or else as the model reads it."""
    declared = rules.inputs.get(source.name)
    if declared is not None:
        return TensorSpec(source.name, declared.datatype, declared.shape)
    if rules.inputs:
        raise InvalidSetting(
            f"{where}: {source.name!r} is not declared; the file's `inputs` are "
            f"{listed(rules.inputs)}" + did_you_mean(source.name, rules.inputs)
        )
    if not alone or source.columns is not None:
        raise InvalidSetting(
            f"{where}: declare {source.name!r} in the file's `inputs`, with datatype and "
            "columns; columns can be picked and joined only of what is declared"
        )
    return TensorSpec(source.name, spec.datatype, spec.shape)


def _require_same(where: str, known: TensorSpec, tensor: TensorSpec) -> None:
    if known != tensor:
        raise InvalidSetting(
            f"{where}: {tensor.name!r} is read as {tensor.datatype} {list(tensor.shape)} here and "
            f"as {known.datatype} {list(known.shape)} elsewhere; declare it in the file's `inputs`"
        )


def _columns(
    where: str, source: Source, tensor: TensorSpec, rules: EndpointRules
) -> tuple[int, ...] | None:
    if source.columns is None:
        return None
    if len(tensor.shape) != 2 or tensor.shape[1] < 1:
        raise InvalidSetting(
            f"{where}.columns: {tensor.name!r} has shape {list(tensor.shape)}, and columns are "
            "picked of [-1, n]"
        )
    names = rules.inputs[source.name].columns
    return tuple(_column(f"{where}.columns", one, names, tensor.shape[1]) for one in source.columns)


def _column(where: str, column: ClassName, names: tuple[str, ...], width: int) -> int:
    if isinstance(column, str):
        if column not in names:
            raise InvalidSetting(
                f"{where}: there is no column {column!r}; there are {listed(names)}"
                + did_you_mean(column, names)
            )
        return names.index(column)
    if not 0 <= column < width:
        raise InvalidSetting(f"{where}: there is no column {column}; there are 0 to {width - 1}")
    return column


def _require_shape(
    where: str, parts: tuple[InputPart, ...], seen: list[TensorSpec], spec: TensorSpec
) -> None:
    first = seen[0].shape
    if len(parts) == 1 and parts[0].columns is None and len(first) == len(spec.shape):
        if all(model in (DYNAMIC, sent) for model, sent in zip(spec.shape, first, strict=True)):
            return
        raise InvalidSetting(
            f"{where}: {seen[0].name!r} has shape {list(first)}, the model reads {list(spec.shape)}"
        )
    width = sum(_width(where, part, tensor) for part, tensor in zip(parts, seen, strict=True))
    fits = spec.shape == (DYNAMIC,) if width == 1 else False
    fits = fits or spec.shape in ((DYNAMIC, width), (DYNAMIC, DYNAMIC))
    if not fits:
        raise InvalidSetting(
            f"{where}: the mapping gives [-1, {width}], the model reads {list(spec.shape)}"
        )


def _width(where: str, part: InputPart, tensor: TensorSpec) -> int:
    """How many columns a tensor contributes to what it is joined into."""
    if not tensor.has_rows or len(tensor.shape) > 2 or tensor.shape[1:] == (DYNAMIC,):
        raise InvalidSetting(
            f"{where}: {tensor.name!r} has shape {list(tensor.shape)}; only [-1] and [-1, n] can "
            "be picked from and joined"
        )
    if part.columns is not None:
        return len(part.columns)
    return 1 if len(tensor.shape) == 1 else tensor.shape[1]


def _require_cast(where: str, given: str, wanted: str, *, lossy: bool) -> None:
    if given == wanted or is_lossless(given, wanted):
        return
    if "BYTES" in (given, wanted):
        raise InvalidSetting(f"{where}: {given} cannot become {wanted}; no text is a number")
    if not lossy:
        raise InvalidSetting(
            f"{where}: {given} to {wanted} can lose digits; say `lossy: true` if that is meant"
        )


def is_lossless(given: str, wanted: str) -> bool:
    """Whether every number of the datatype `given` is one of `wanted`."""
    if "BYTES" in (given, wanted):
        return False
    source, target = DATATYPES[given].dtype, DATATYPES[wanted].dtype
    if source.kind in "iu" and target.kind == "f":
        return bool(np.iinfo(source).max < 2 ** (np.finfo(target).nmant + 1))
    return bool(np.can_cast(source, target, "safe"))


# -- outputs ----------------------------------------------------------------------------------


def _bind_outputs(
    facts: VersionFacts, rules: EndpointRules, section: VersionRules
) -> tuple[tuple[OutputMap, ...], list[TensorSpec]]:
    """What each output of the endpoint is made of, and what clients see of it."""
    own = {spec.name: spec for spec in facts.signature.outputs}
    sources = section.outputs or {name: Source(name) for name in own}
    prediction = rules.prediction.output_of(facts.version) or next(iter(sources))
    maps, answered = [], []
    for name, source in sources.items():
        where = f"versions.{facts.version}.outputs.{name}"
        if source.name not in own:
            raise InvalidSetting(
                f"{where}: the model has no output {source.name!r}; it writes {listed(own)}"
                + did_you_mean(source.name, own)
            )
        spec, datatype = own[source.name], rules.outputs.get(name) or own[source.name].datatype
        one = OutputMap(name, source.name)
        if name == prediction:
            one = bind_classes(
                one,
                spec,
                reading=rules.prediction,
                version=facts.version,
                own=section.classes,
                datatype=datatype,
            )
        if one.texts is None:
            _require_cast(where, spec.datatype, datatype, lossy=source.lossy)
        maps.append(one)
        answered.append(TensorSpec(name, datatype, spec.shape))
    return tuple(maps), answered


def _require_declared(
    facts: VersionFacts, rules: EndpointRules, answered: list[TensorSpec]
) -> None:
    names = [spec.name for spec in answered]
    for name in rules.outputs:
        if name not in names:
            raise InvalidSetting(
                f"outputs.{name}: version {facts.version} does not answer it, only "
                f"{listed(names)}; map one of them in versions.{facts.version}.outputs"
                + did_you_mean(name, names)
            )
