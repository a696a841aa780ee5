"""The OpenAPI document and the applications: each knows exactly the routes of the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.routing import Route

from gateway.bootstrap.worker import OPERATIONS
from gateway.protocols import admin_operations, app, oip_operations
from gateway.protocols.admin_http import admin_routes, build_admin
from gateway.protocols.admin_routes import AdminRoutes, Limits
from gateway.protocols.export_http import EXPORT, export_routes
from gateway.protocols.labels_http import TAKE_LABELS
from gateway.protocols.operation import Operation

_WAITS: Any = None


def test_the_operators_routes_are_those_that_are_described() -> None:
    """Every route that the application has, and no other; each handler once."""
    exports = export_routes(Path(), rules_of=_WAITS, covered_now=_WAITS)
    routes = (*admin_routes(AdminRoutes.__new__(AdminRoutes)), *exports)
    assert sorted(map(_name, (route.operation for route in routes))) == sorted(
        map(_name, (*admin_operations.OPERATIONS, EXPORT))
    )
    assert len({route.handle.__name__ for route in routes}) == len(routes)
    limits = Limits(upload_folder=Path())
    built = build_admin(_WAITS, _WAITS, exports, limits=limits)
    paths = {route.path for route in built.routes if isinstance(route, Route)}
    assert paths == {route.operation.path for route in routes}


def test_every_table_of_operations_is_in_the_document() -> None:
    """A table that is written and not shown would be a route that nobody hears of."""
    tables = (
        *(*oip_operations.OPERATIONS, TAKE_LABELS, *admin_operations.OPERATIONS),
        *(EXPORT, *app.OPERATIONS),
    )
    assert sorted(map(_name, OPERATIONS)) == sorted(map(_name, tables))


def _name(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"
