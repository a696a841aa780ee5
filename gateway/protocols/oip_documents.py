"""What the Open Inference Protocol's routes answer, as types: its JSON names to the letter."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta

#: Flat, in C order; an array of numpy until it is encoded.
FlatData = Annotated[Any, Meta(extra_json_schema={"type": "array"})]


class LiveDocument(TypedDict):
    """The worker runs."""

    live: bool


class ReadyDocument(TypedDict):
    """Whether the worker may be sent traffic."""

    ready: bool


class ModelReadyDocument(TypedDict):
    """Whether an endpoint, or one version of it, is served."""

    name: str
    ready: bool


class ServerDocument(TypedDict):
    """What the server is, and which extensions of the protocol it speaks."""

    name: str
    version: str
    extensions: list[str]


class TensorDocument(TypedDict):
    """An input or output; a dimension of −1 may have any size."""

    name: str
    datatype: str
    shape: list[int]


class MetadataDocument(TypedDict):
    """An endpoint, or one version of it; `versions` are those that are loaded."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorDocument]
    outputs: list[TensorDocument]


class AnswerParameters(TypedDict):
    """The id that labels name, and the role of the version that answered."""

    prediction_id: str
    role: str


class BinaryParameters(TypedDict):
    """How many bytes behind the JSON are this output's."""

    binary_data_size: int


class OutputDocument(TypedDict):
    """One output; without `data` it is among the bytes behind the JSON."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: NotRequired[FlatData]
    parameters: NotRequired[BinaryParameters]


class AnswerDocument(TypedDict):
    """A prediction; `id` is the request's, if it had one."""

    model_name: str
    model_version: str
    id: NotRequired[str]
    parameters: AnswerParameters
    outputs: list[OutputDocument]
