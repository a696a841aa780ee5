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
from gateway.protocols.admin_answers import error_answer, on_error, on_http_error
from gateway.protocols.admin_routes import AdminRoutes, Limits

Authenticate = Callable[[str | None], Key]
Handle = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class GuardedRoute:
    """A route and the right that it needs; its handler finds the key in `key_of(request)`."""

    method: str
    path: str
    handle: Handle
    needs: Right


def build_admin(
    operations: Operations,
    authenticate: Authenticate,
    extra_routes: Sequence[GuardedRoute] = (),
    *,
    limits: Limits,
) -> Starlette:
    """The application for every path under /v1. `authenticate` may block; it gets a thread."""
    routes = (*admin_routes(AdminRoutes(operations, limits)), *extra_routes)
    return Starlette(
        routes=[_route(path, routes) for path in dict.fromkeys(r.path for r in routes)],
        middleware=[Middleware(Gate, authenticate=authenticate)],
        exception_handlers={
            AuditionError: on_error,
            HTTPException: on_http_error,
            Exception: on_error,
        },
    )


def admin_routes(handlers: AdminRoutes) -> tuple[GuardedRoute, ...]:
    """Every route of this file's own."""
    one = "/v1/endpoints/{endpoint}"
    return (
        GuardedRoute("GET", "/v1/endpoints", handlers.list_endpoints, "view"),
        GuardedRoute("GET", one, handlers.show_status, "view"),
        GuardedRoute("PUT", f"{one}/split", handlers.put_split, "operate"),
        GuardedRoute("PUT", f"{one}/shadow", handlers.put_shadow, "operate"),
        GuardedRoute("PUT", f"{one}/challengers/{{version}}", handlers.challenge, "operate"),
        GuardedRoute("DELETE", f"{one}/challengers/{{version}}", handlers.withdraw, "operate"),
        GuardedRoute("POST", f"{one}/promotions", handlers.promote, "operate"),
        GuardedRoute("POST", f"{one}/rollbacks", handlers.roll_back, "operate"),
        GuardedRoute("GET", f"{one}/evidence", handlers.show_evidence, "view"),
        GuardedRoute("GET", f"{one}/decisions", handlers.show_decisions, "view"),
        GuardedRoute("GET", f"{one}/versions", handlers.list_versions, "view"),
        GuardedRoute("POST", f"{one}/versions", handlers.add_version, "operate"),
        GuardedRoute("GET", "/v1/keys", handlers.list_keys, "admin"),
        GuardedRoute("POST", "/v1/keys", handlers.create_key, "admin"),
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


def _route(path: str, routes: Sequence[GuardedRoute]) -> Route:
    """One route for a path and all its methods, so that another method there is 405."""
    by_method = {route.method: route for route in routes if route.path == path}

    async def guarded(request: Request) -> Response:
        route = by_method["GET" if request.method == "HEAD" else request.method]
        for kind, name in request.path_params.items():
            require_name(kind, name)
        endpoint = request.path_params.get("endpoint")
        require_right(request.scope["key"], route.needs, endpoint=endpoint)
        return await route.handle(request)

    return Route(path, guarded, methods=list(by_method))
