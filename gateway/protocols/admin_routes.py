"""The handlers of the admin API: decode, call the use case in a thread, answer.

Rules: who acts is the key's name, never something the request says. A change needs
`If-Match: "<epoch>"`, the epoch that it was decided on (the ETag of the status).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.core.access import covers
from gateway.errors import Forbidden, InvalidInput
from gateway.judge.changes import Change, Intent
from gateway.judge.documents import (
    DecisionsDocument,
    EvidenceDocument,
    StatusDocument,
    VersionsDocument,
)
from gateway.judge.operations import Operations
from gateway.ports import Key
from gateway.protocols.admin_answers import answer
from gateway.protocols.admin_operations import (
    EPOCH_TAG,
    ChallengeBody,
    EndpointsDocument,
    KeyBody,
    KeyDocument,
    KeysDocument,
    NewKeyDocument,
    NewVersionQuery,
    PromotionBody,
    ReasonBody,
    RollbackBody,
    ShadowBody,
    SplitBody,
)
from gateway.protocols.bodies import JSON, read_json, read_query, require_media_type, spool_body

_K = TypeVar("_K", bound=msgspec.Struct)
_D = TypeVar("_D", StatusDocument, EvidenceDocument, DecisionsDocument, VersionsDocument)
_MODEL_FILES = frozenset({"application/octet-stream", "application/onnx"})


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a request may bring, and where a model file waits while it comes in."""

    upload_folder: Path
    body_bytes: int = 1 << 20
    model_bytes: int = 2 << 30


class AdminRoutes:
    """One method a route."""

    def __init__(self, operations: Operations, limits: Limits) -> None:
        self._operations = operations
        self._limits = limits

    async def list_endpoints(self, request: Request) -> Response:
        """The endpoints that the key covers, with their status."""
        _require_no_body(request)
        seen: EndpointsDocument = {
            "endpoints": await run_in_threadpool(self._statuses, key_of(request))
        }
        return answer(seen)

    async def show_status(self, request: Request) -> Response:
        """Phase, split, challengers, verdicts, workers."""
        return await self._show(request, self._operations.status)

    async def show_evidence(self, request: Request) -> Response:
        """Registrations with terms, evidence and verdict."""
        return await self._show(request, self._operations.evidence)

    async def show_decisions(self, request: Request) -> Response:
        """The decision log, and what a check of it found."""
        return await self._show(request, self._operations.decisions)

    async def list_versions(self, request: Request) -> Response:
        """The versions of an endpoint."""
        return await self._show(request, self._operations.versions)

    async def put_split(self, request: Request) -> Response:
        """Share the answers."""
        body = await self._body(request, SplitBody)
        return await self._change(request, body, self._operations.split, body.weights_bp)

    async def put_shadow(self, request: Request) -> Response:
        """Change what a challenger's shadow sees."""
        body = await self._body(request, ShadowBody)
        return await self._change(
            request, body, self._operations.shadow, body.version, sample_bp=body.sample_bp
        )

    async def challenge(self, request: Request) -> Response:
        """Register a challenger."""
        body = await self._body(request, ChallengeBody)
        version = request.path_params["version"]
        return await self._change(
            request, body, self._operations.challenge, version, sample_bp=body.sample_bp
        )

    async def withdraw(self, request: Request) -> Response:
        """Close a challenger's registration; the reason is in the query."""
        _require_no_body(request)
        version = request.path_params["version"]
        return await self._change(
            request, read_query(request, ReasonBody), self._operations.withdraw, version
        )

    async def promote(self, request: Request) -> Response:
        """Make a challenger the champion."""
        body = await self._body(request, PromotionBody)
        return await self._change(
            request, body, self._operations.promote, body.version, is_forced=body.force
        )

    async def roll_back(self, request: Request) -> Response:
        """Make the previous champion the champion again."""
        body = await self._body(request, RollbackBody)
        return await self._change(request, body, self._operations.rollback)

    async def add_version(self, request: Request) -> Response:
        """Take in the model file that is the body; `?version=` names it."""
        require_media_type(request, _MODEL_FILES)
        query = read_query(request, NewVersionQuery)
        _expected_epoch(request)  # before gigabytes are taken in
        with tempfile.TemporaryDirectory(dir=self._limits.upload_folder) as folder:
            file = Path(folder) / "model.onnx"
            await spool_body(request, file, limit_bytes=self._limits.model_bytes)
            return await self._change(
                request,
                ReasonBody(reason=query.reason),
                self._operations.add_version,
                query.version,
                file,
            )

    async def list_keys(self, request: Request) -> Response:
        """Names and roles; the keys themselves are not known to us."""
        _require_no_body(request)
        _require_unlimited(key_of(request))
        keys = await run_in_threadpool(self._operations.keys)
        seen: KeysDocument = {"keys": [_public(key) for key in keys]}
        return answer(seen)

    async def create_key(self, request: Request) -> Response:
        """Make a key; its token is in this answer and nowhere else."""
        _require_unlimited(key_of(request))
        body = await self._body(request, KeyBody)
        made = await run_in_threadpool(
            self._operations.create_key, name=body.name, role=body.role, endpoints=body.endpoints
        )
        seen: NewKeyDocument = {**_public(made.key), "token": made.token}
        return answer(seen, status=201)

    def _statuses(self, key: Key) -> list[StatusDocument]:
        names = [name for name in self._operations.endpoints() if covers(key, name)]
        return [self._operations.status(name) for name in names]

    async def _show(self, request: Request, read: Callable[[str], _D]) -> Response:
        _require_no_body(request)
        document = await run_in_threadpool(read, request.path_params["endpoint"])
        epoch = document.get("epoch")
        return answer(document, epoch=epoch if isinstance(epoch, int) else None)

    async def _body(self, request: Request, kind: type[_K]) -> _K:
        return await read_json(request, kind, limit_bytes=self._limits.body_bytes)

    async def _change(
        self,
        request: Request,
        body: ReasonBody,
        change: Callable[..., Change],
        *arguments: object,
        **options: object,
    ) -> Response:
        intent = Intent(
            actor=key_of(request).name,
            reason=body.reason,
            expected_epoch=_expected_epoch(request),
        )
        endpoint = request.path_params["endpoint"]
        done = await run_in_threadpool(change, endpoint, *arguments, intent=intent, **options)
        return answer(done, epoch=done.epoch)


def key_of(request: Request) -> Key:
    """The key that the gate let in."""
    key: Key = request.scope["key"]
    return key


def _expected_epoch(request: Request) -> int:
    given = request.headers.get("if-match")
    if given is None:
        raise HTTPException(
            428, 'send `If-Match: "<epoch>"`, the epoch that the change was decided on'
        )
    if re.match(EPOCH_TAG, given) is None:
        raise InvalidInput("If-Match", f"{given[:40]!r} is no epoch; send the status's ETag")
    return int(given.removeprefix("W/").strip('"'))


def _require_no_body(request: Request) -> None:
    require_media_type(request, JSON, if_any=True)


def _require_unlimited(key: Key) -> None:
    """A key for some endpoints must not be able to make itself one for all."""
    if key.endpoints:
        raise Forbidden("this key covers some endpoints only; keys need one that covers all")


def _public(key: Key) -> KeyDocument:
    return {
        "name": key.name,
        "role": key.role,
        "endpoints": list(key.endpoints),
        "created_at_us": key.created_at_us,
    }
