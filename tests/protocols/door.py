"""A scene behind the protocol over HTTP, and ordinary requests to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.errors import Forbidden
from gateway.protocols.oip_catalogue import Catalogue
from gateway.protocols.oip_http import InferenceApp
from gateway.protocols.oip_inference import Inference
from gateway.serving.trace import Tracer
from tests.asgi_client import AsgiClient
from tests.serving.scenes import Scene

INFER = "/v2/models/demo/infer"


LIMIT_BYTES = 20_000


GOOD = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [0, 1, 2]}]}


class Door(Scene):
    """A scene behind the protocol; `rights` is what the caller's key may do."""

    def __init__(self, folder: Path, *arguments: Any, **options: Any) -> None:
        super().__init__(folder, *arguments, **options)
        self.rights = {"infer"}
        self.ready = True
        self.inference = Inference(
            routes=self.routes,
            dataplane=self.dataplane,
            tracer=Tracer(ratio=0, seed=1),
            authorise=self._authorise,
            max_body_bytes=LIMIT_BYTES,
        )
        self.app = InferenceApp(
            catalogue=Catalogue(routes=self.routes, authorise=self._authorise),
            inference=self.inference,
            is_ready=lambda: self.ready,
        )
        self.client = AsgiClient(self.app)

    def _authorise(self, _headers: Any, right: str, endpoint: str) -> str:
        if right not in self.rights:
            raise Forbidden(f"may not {right} {endpoint}")
        return "somebody"

    def get(self, path: str, **options: Any) -> Any:
        """A GET request."""
        return self.client.request("GET", path, **options)

    def post(self, document: Any = GOOD, path: str = INFER, **options: Any) -> Any:
        """An inference request of a JSON document, or of `content` as it is."""
        if "content" not in options:
            options["content"] = json.dumps(document).encode()
        return self.client.request("POST", path, **options)

    def outcomes(self) -> list[tuple[str, str, int]]:
        """Status, exclusion and rows of each record."""
        return [(record.status, record.exclusion, record.rows) for record in self.records()]


MakeDoor = Callable[..., Door]


def sent(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{**GOOD["inputs"][0], **changes}]}
