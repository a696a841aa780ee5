"""The operators' API under /v1: routes, the right that each needs, and the gate before them.

Rules: deny by default. Nothing is routed before the gate knows whose key it is, and a route
cannot be made without naming the right that it needs. What a change does is in
`judge.operations`; here it is only decoded, called and answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.core.access import Right, require_right
from gateway.core.names import require_name
from gateway.errors import AuditionError
from gateway.judge.operations import Operations
from gateway.ports import Key
from gateway.protocols import admin_operations as told
from gateway.protocols.admin_answers import error_answer, on_error, on_http_error
from gateway.protocols.admin_routes import AdminRoutes, Limits
from gateway.protocols.operation import Operation, allow_header

Authenticate = Callable[[str | None], Key]
Handle = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class GuardedRoute:
    """An operation and what does it; its handler finds the key in `key_of(request)`."""

    operation: Operation
    handle: Handle


def build_admin(
    operations: Operations,
    authenticate: Authenticate,
    extra_routes: Sequence[GuardedRoute] = (),
    *,
    limits: Limits,
) -> Starlette:
    """The application for every path under /v1. `authenticate` may block; it gets a thread."""
    routes = (*admin_routes(AdminRoutes(operations, limits)), *extra_routes)
    app = Starlette(
        routes=[Route(path, _Path(path, routes)) for path in dict.fromkeys(map(_path, routes))],
        middleware=[Middleware(Gate, authenticate=authenticate)],
        exception_handlers={
            AuditionError: on_error,
            HTTPException: on_http_error,
            Exception: on_error,
        },
    )
    app.router.redirect_slashes = False  # a path with one more slash is another path
    return app


def admin_routes(handlers: AdminRoutes) -> tuple[GuardedRoute, ...]:
    """Every route of this file's own."""
    return (
        GuardedRoute(told.LIST_ENDPOINTS, handlers.list_endpoints),
        GuardedRoute(told.SHOW_STATUS, handlers.show_status),
        GuardedRoute(told.PUT_SPLIT, handlers.put_split),
        GuardedRoute(told.PUT_SHADOW, handlers.put_shadow),
        GuardedRoute(told.CHALLENGE, handlers.challenge),
        GuardedRoute(told.WITHDRAW, handlers.withdraw),
        GuardedRoute(told.PROMOTE, handlers.promote),
        GuardedRoute(told.ROLL_BACK, handlers.roll_back),
        GuardedRoute(told.SHOW_EVIDENCE, handlers.show_evidence),
        GuardedRoute(told.SHOW_DECISIONS, handlers.show_decisions),
        GuardedRoute(told.LIST_VERSIONS, handlers.list_versions),
        GuardedRoute(told.ADD_VERSION, handlers.add_version),
        GuardedRoute(told.LIST_KEYS, handlers.list_keys),
        GuardedRoute(told.CREATE_KEY, handlers.create_key),
    )


class Gate:
    """ASGI: lets a request in whose key is known, and writes the key into its scope."""

    def __init__(self, app: ASGIApp, *, authenticate: Authenticate) -> None:
        self._app = app
        self._authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 or 429 before any route is looked up."""
        if scope["type"] == "http":
            authorization = Request(scope).headers.get("authorization")
            try:
                key = await run_in_threadpool(self._authenticate, authorization)
            except AuditionError as error:
                await error_answer(error)(scope, receive, send)
                return
            scope = {**scope, "key": key}
        await self._app(scope, receive, send)


class _Path:
    """ASGI: one path with all its methods, so that another method there is 405."""

    def __init__(self, path: str, routes: Sequence[GuardedRoute]) -> None:
        here = [route for route in routes if route.operation.path == path]
        self._by_method = {route.operation.method: route for route in here}
        self._allow = allow_header((route.operation for route in here), path).decode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request that came through the gate."""
        request = Request(scope, receive, send)
        await (await self._answer(request))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        route = self._by_method.get("GET" if request.method == "HEAD" else request.method)
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"allow": self._allow})
        if route is None:
            raise HTTPException(405, f"use {self._allow} here", {"allow": self._allow})
        for kind, name in request.path_params.items():
            require_name(kind, name)
        endpoint = request.path_params.get("endpoint")
        require_right(request.scope["key"], _needed(route), endpoint=endpoint)
        return await route.handle(request)


def _needed(route: GuardedRoute) -> Right:
    needs = route.operation.needs
    assert needs is not None, "every route under /v1 needs a key"
    return needs


def _path(route: GuardedRoute) -> str:
    return route.operation.path
