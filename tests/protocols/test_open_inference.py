"""The messages on the wire: the public client's, and those that the .proto file makes."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from tritonclient.grpc import service_pb2 as public

from gateway.protocols import open_inference_pb2 as ours
from tests.protocols.open_inference_stubs import FOLDER, generated


def _file(module: Any) -> FileDescriptorProto:
    file = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    return file


def _fields(message: Any, path: str = "") -> dict[str, tuple[Any, ...]]:
    """Path → number, type, label and type name of every field, nested messages included."""
    prefix = f"{path}.{message.name}"
    found = {
        f"{prefix}.{one.name}": (one.number, one.type, one.label, one.type_name)
        for one in message.field
    }
    for nested in message.nested_type:
        found |= _fields(nested, prefix)
    return found


@pytest.mark.parametrize("message", _file(ours).message_type, ids=lambda message: message.name)
def test_every_field_is_the_public_clients(message: Any) -> None:
    """Names, numbers and types: the same bytes mean the same, and no field is left out."""
    (theirs,) = [one for one in _file(public).message_type if one.name == message.name]
    assert _fields(message) == _fields(theirs)


def test_every_call_is_the_public_clients() -> None:
    """The service's name, and each call's request and answer."""
    (service,) = _file(ours).service
    (theirs,) = [one for one in _file(public).service if one.name == service.name]
    known = {one.name: (one.input_type, one.output_type) for one in theirs.method}
    assert _file(ours).package == _file(public).package
    assert {one.name: (one.input_type, one.output_type) for one in service.method}.items() <= (
        known.items()
    )


def test_the_kept_modules_are_what_the_file_makes() -> None:
    """Who changes open_inference.proto makes them anew."""
    for name, text in generated().items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, name
