"""What the Open Inference Protocol says of what is served, whichever wire asks."""

from __future__ import annotations

from typing import TypedDict

from gateway.core.names import require_name
from gateway.core.tensors import TensorSpec
from gateway.errors import Forbidden, UnknownEndpoint, UnknownVersion
from gateway.protocols.asgi import Headers
from gateway.protocols.oip_documents import MetadataDocument, TensorDocument
from gateway.protocols.oip_inference import Authorise
from gateway.protocols.operation import VERSION
from gateway.serving.routes import Routes, Table


class Identity(TypedDict):
    """Name and version of the server."""

    name: str
    version: str


IDENTITY: Identity = {"name": "audition", "version": VERSION}


class Catalogue:
    """The endpoints that are served now, shown to those who may see them."""

    def __init__(self, *, routes: Routes, authorise: Authorise) -> None:
        self.authorise = authorise
        self._routes = routes

    def find(self, headers: Headers, endpoint: str, version: str | None, *, infers: bool) -> Table:
        """The table of an endpoint that has this version; `infers`: asked for a prediction.

        Raises Unauthenticated or Forbidden first, then UnknownEndpoint or UnknownVersion.
        """
        try:
            self.authorise(headers, "infer", endpoint)
        except Forbidden:
            # Who may pin a version may also be told that it is not there.
            if version is None or not infers:
                raise
            self.authorise(headers, "operate", endpoint)
        table = self._table(endpoint)
        if version is not None and version not in table.versions:
            require_name("version", version)
            raise UnknownVersion(
                f"version {version[:80]!r} of endpoint {endpoint} is not loaded; loaded are "
                + ", ".join(sorted(table.versions))
            )
        return table

    def _table(self, endpoint: str) -> Table:
        table = self._routes.tables.get(endpoint)
        if table is None:
            require_name("endpoint", endpoint)
            known = ", ".join(sorted(self._routes.tables)) or "none yet"
            raise UnknownEndpoint(f"there is no endpoint {endpoint[:80]!r}; there are: {known}")
        return table


def metadata(table: Table, version: str | None) -> MetadataDocument:
    """Inputs, outputs and versions of an endpoint, or of one version of it."""
    shown = version or table.rollout.champion
    signature = table.versions[shown].answers
    inputs = signature.inputs if version is not None else tuple(table.inputs.values())
    return {
        "name": table.rollout.endpoint,
        "versions": sorted(table.versions),
        "platform": "onnxruntime_onnx",
        "inputs": [_tensor_metadata(spec) for spec in inputs],
        "outputs": [_tensor_metadata(spec) for spec in signature.outputs],
    }


def _tensor_metadata(spec: TensorSpec) -> TensorDocument:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
