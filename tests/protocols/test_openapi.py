"""The OpenAPI document: whole, derived from what the routes decode, and readable by machines."""

from __future__ import annotations

import json
from typing import Any, get_type_hints

import msgspec
import pytest
from jsonschema_rs import validator_for
from schemathesis import openapi

from gateway.bootstrap.worker import OPERATIONS
from gateway.core.access import RIGHTS
from gateway.core.verdict import Verdict
from gateway.judge.documents import VerdictDocument
from gateway.protocols.openapi import openapi_document
from gateway.protocols.operation import JSON_TYPE

DOCUMENT = json.loads(openapi_document(OPERATIONS, is_open=False))


def _described() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_operation_is_described_once() -> None:
    """One entry for each method of each path, with an id of its own."""
    assert len(_described()) == len(OPERATIONS)
    assert len({one["operationId"] for _, _, one in _described()}) == len(OPERATIONS)


def test_every_reference_leads_somewhere() -> None:
    """No schema speaks of another that is not there, and none is there for nobody."""
    text = json.dumps(DOCUMENT)
    components = set(DOCUMENT["components"]["schemas"])
    named = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named == components


def test_a_public_reader_understands_it() -> None:
    """Another implementation finds every operation and builds requests from it."""
    schema = openapi.from_dict(DOCUMENT)
    assert {result.ok().label for result in schema.get_all_operations()} == {
        f"{operation.method} {operation.path}" for operation in OPERATIONS
    }


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method} {one.path}")
def test_examples_are_what_the_route_decodes(operation: Any) -> None:
    """Both for the type in the code and for the schema in the document."""
    described = DOCUMENT["paths"][operation.path][operation.method.lower()]
    for example in operation.examples:
        msgspec.convert(example, operation.takes[JSON_TYPE])
        schema = described["requestBody"]["content"][JSON_TYPE]["schema"]
        whole = {**schema, "components": DOCUMENT["components"]}
        validator_for(whole).validate(example)


def test_security_names_the_right_that_is_needed() -> None:
    """Each route the right that its code asks for; open ones none."""
    for operation in OPERATIONS:
        described = DOCUMENT["paths"][operation.path][operation.method.lower()]
        expected = [] if operation.needs is None else [{"key": [operation.needs]}]
        assert described["security"] == expected
        assert operation.needs is None or operation.needs in RIGHTS
        assert ("401" in described["responses"]) == (operation.needs is not None)


def test_an_open_gateway_says_so() -> None:
    """Inference, metadata and metrics then need no key; changes do all the same."""
    document = json.loads(openapi_document(OPERATIONS, is_open=True))
    infer = document["paths"]["/v2/models/{endpoint}/infer"]["post"]
    assert infer["security"] == [{}, {"key": ["infer"]}]
    assert document["paths"]["/v1/keys"]["post"]["security"] == [{"key": ["admin"]}]


def test_every_error_has_the_one_form() -> None:
    """All that is no success, readiness apart, whose 503 says the same as its 200."""
    for _, path, operation in _described():
        for status, response in operation["responses"].items():
            if int(status) >= 400 and not path.endswith(("/readyz", "/health/ready")):
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorDocument"}


def test_the_verdicts_document_has_the_verdicts_fields() -> None:
    """A field of a verdict cannot come or go unseen."""
    assert set(get_type_hints(VerdictDocument)) == set(Verdict.__struct_fields__)
