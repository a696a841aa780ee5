"""`GET /openapi.json`: the OpenAPI 3.1 document, derived from the operations and their types.

Rules: nothing about a single route is written here. A schema is what msgspec says of the type
that the route decodes or encodes, a status is where `asgi.STATUSES` sends an exception that the
operation refuses with, and a key's scope is the right that the operation needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from gateway import errors
from gateway.core.access import GRANTS, RIGHTS
from gateway.protocols.asgi import STATUSES
from gateway.protocols.oip_request import Parameters
from gateway.protocols.operation import VERSION, ErrorDocument, Media, Operation, ResourceName

Document = dict[str, Any]

_REFERENCE = "#/components/schemas/"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_ABOUT = (
    'Every error is `{"error": …}` and names the field. HEAD is answered wherever GET is, and '
    "OPTIONS everywhere, with the methods in `Allow`; any other method is 405 with the same. "
    "Bodies of /v2 and of labels may be sent with `Content-Encoding: gzip` or `deflate`."
)


def openapi_document(operations: Iterable[Operation], *, is_open: bool) -> bytes:
    """The document as JSON; `is_open`: inference and metrics need no key here."""
    known = tuple(operations)
    schemas = _Schemas(known)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "Audition", "version": VERSION, "description": _ABOUT},
            "paths": _paths(known, schemas, is_open=is_open),
            "components": {
                "schemas": schemas.components,
                "securitySchemes": {"key": _key()},
            },
        }
    )


def _key() -> Document:
    roles = (
        f"{right}: {', '.join(role for role, rights in GRANTS.items() if right in rights)}"
        for right in RIGHTS
    )
    return {
        "type": "http",
        "scheme": "bearer",
        "description": f"A key. Scopes, and the roles that have them: {'; '.join(roles)}.",
    }


def _paths(operations: Sequence[Operation], schemas: _Schemas, *, is_open: bool) -> Document:
    paths: Document = {}
    for operation in operations:
        methods = paths.setdefault(operation.path, {})
        methods[operation.method.lower()] = _operation(operation, schemas, is_open=is_open)
    return paths


def _operation(operation: Operation, schemas: _Schemas, *, is_open: bool) -> Document:
    described: Document = {
        "operationId": _identifier(operation),
        "summary": operation.summary,
        "tags": [operation.path.split("/")[1]],
        "parameters": _parameters(operation, schemas),
        "responses": _responses(operation, schemas),
        "security": _security(operation, is_open=is_open),
    }
    if operation.takes:
        described["requestBody"] = {
            "required": True,
            "content": _content(operation.takes, schemas, operation.examples),
        }
    return described


def _identifier(operation: Operation) -> str:
    return operation.method.lower() + "_" + re.sub(r"\W+", "_", operation.path).strip("_")


def _security(operation: Operation, *, is_open: bool) -> list[Document]:
    if operation.needs is None:
        return []
    key: list[Document] = [{"key": [operation.needs]}]
    return [{}, *key] if is_open and operation.may_be_open else key


def _parameters(operation: Operation, schemas: _Schemas) -> list[Document]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": schemas.of(ResourceName)}
        for name in _PLACEHOLDER.findall(operation.path)
    ]
    in_query = _fields(operation.query, "query", schemas)
    return [*in_path, *in_query, *_fields(operation.headers, "header", schemas)]


def _fields(kind: Any, place: str, schemas: _Schemas) -> list[Document]:
    if kind is None:
        return []
    return [
        {
            "name": field.encode_name,
            "in": place,
            "required": field.required,
            "schema": _without_null(schemas.of(field.type)),
        }
        for field in msgspec.structs.fields(kind)
    ]


def _without_null(schema: Document) -> Document:
    """A parameter is left out, never null."""
    choices = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    if len(choices) != 1:
        return schema
    return {**{key: value for key, value in schema.items() if key != "anyOf"}, **choices[0]}


def _responses(operation: Operation, schemas: _Schemas) -> Document:
    found: Document = {}
    for status, why in sorted(_refusals(operation).items()):
        found[str(status)] = {
            "description": why,
            "content": _content({"application/json": ErrorDocument}, schemas),
        }
    for status, media in operation.gives.items():
        headers = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in operation.carries.items()
        }
        content = _content(media, schemas)
        found[str(status)] = {"description": "The answer.", "headers": headers, "content": content}
    return found


def _refusals(operation: Operation) -> dict[int, str]:
    """Why each status that is no success is answered, in the words of the exceptions."""
    found: dict[int, list[str]] = {500: ["A fault of ours, which the log describes"]}
    for status, why in operation.also.items():
        found.setdefault(status, []).append(why)
    for kind in dict.fromkeys(operation.refuses):
        found.setdefault(_status(kind), []).append(str(kind.__doc__).partition("\n")[0].rstrip("."))
    return {status: ". ".join(whys) + "." for status, whys in found.items()}


def _status(kind: type[errors.AuditionError]) -> int:
    return next(STATUSES[one] for one in kind.__mro__ if one in STATUSES)


def _content(media: Media, schemas: _Schemas, examples: Sequence[Any] = ()) -> Document:
    found: Document = {}
    for name, kind in media.items():
        found[name] = {} if kind is bytes else {"schema": schemas.of(kind)}
        if examples and name == "application/json":
            found[name]["examples"] = {
                f"example_{number}": {"value": value} for number, value in enumerate(examples, 1)
            }
    return found


class _Schemas:
    """The schemas of all types that operations speak of; named ones are components."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        kinds = [*dict.fromkeys(_kinds(operations))]
        made, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE + "{name}")
        self._deep = msgspec.json.schema(Parameters)
        self._made = {kind: self._plain(schema) for kind, schema in zip(kinds, made, strict=True)}
        self.components = {_short(name): self._plain(one) for name, one in components.items()}
        self.components["Parameters"] = self._deep

    def of(self, kind: Any) -> Document:
        """The schema of a type."""
        found: Document = self._made[kind]
        return found

    def _plain(self, schema: Any) -> Any:
        """Without the arguments of generic types in names, and with deep parameters named."""
        if isinstance(schema, list):
            return [self._plain(one) for one in schema]
        if not isinstance(schema, Mapping):
            return schema
        if schema == self._deep:
            return {"$ref": f"{_REFERENCE}Parameters"}
        found = {key: self._plain(value) for key, value in schema.items()}
        if found.get("default", 0) is None:
            del found["default"]  # the same as leaving it out, which is what a reader may do
        if isinstance(found.get("$ref"), str):
            found["$ref"] = _REFERENCE + _short(found["$ref"].removeprefix(_REFERENCE))
        if isinstance(found.get("title"), str):
            found["title"] = found["title"].partition("[")[0]
        return found


def _short(name: str) -> str:
    return name.partition("_")[0]


def _kinds(operations: Sequence[Operation]) -> Iterable[Any]:
    yield from (ResourceName, ErrorDocument)
    for operation in operations:
        for media in (operation.takes, *operation.gives.values()):
            yield from (kind for kind in media.values() if kind is not bytes)
        for kind in (operation.query, operation.headers):
            if kind is not None:
                yield from (field.type for field in msgspec.structs.fields(kind))
