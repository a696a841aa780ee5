"""One ONNX model in this process: loaded, measured, run.

Used by the workers and, unchanged, by the child processes of challengers, so it imports
onnxruntime, numpy and our pure core and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from gateway.core.mapping import from_model, to_model
from gateway.core.routes import VersionFacts
from gateway.core.tensors import DATATYPES, TensorSpec, first_nonfinite
from gateway.errors import InvalidInput, InvalidModel, ModelFailed, ModelTimedOut, NonFiniteOutput
from gateway.runtimes.digest import version_digest
from gateway.runtimes.providers import provider_of, session_providers

Arrays = dict[str, NDArray[Any]]

#: A run that is predicted to take longer leaves the event loop to others.
INLINE_BUDGET_US = 300.0
_MEASURED_ROWS = 64
#: For a long run few rows are enough: what a batch saves shows from the second on.
_MEASURED_LONG_ROWS = 4
#: Runs are worth joining where at least this share of one is the same whatever its rows are.
_SHARED_COST = 0.2

# Fatal only: what goes wrong in a run is raised, and a client could flood the log with it.
onnxruntime.set_default_logger_severity(4)


class OnnxModel:
    """A warmed session of one model version and what a run of it costs."""

    def __init__(
        self,
        facts: VersionFacts,
        content: bytes,
        *,
        folder: Path | None = None,
        providers: Sequence[str] = ("cpu",),
    ) -> None:
        """Raises InvalidModel when the bytes are not those of `facts` or do not load.

        `folder` is where the model's external data lies, for a model that has some; `providers`
        names what it may run on, best first.
        """
        try:
            found = version_digest(content, folder=folder, external=facts.external)
        except OSError as error:
            raise InvalidModel(
                f"version {facts.version}: a file of its weights cannot be read: {error.strerror}"
            ) from error
        expected = facts.unmapped().digest
        if found != expected:
            raise InvalidModel(
                f"version {facts.version}: the digest of its files is {found[:12]}…, not "
                f"{expected[:12]}…; versions are immutable, add the file as a new version"
            )
        self.facts = facts
        self._mapping = facts.mapping
        own = facts.own
        self._session = open_session(content, folder=folder, providers=providers)
        #: What it runs on, which need not be the first that was asked for.
        self.provider = provider_of(self._session, providers)
        self._texts = [s.name for s in own.inputs if s.datatype == "BYTES"]
        self._outputs = [(s.name, s.datatype) for s in own.outputs if _is_answered(facts, s.name)]
        self._names = [name for name, _ in self._outputs]
        #: Of what is answered, by the endpoint's names.
        self.datatypes = {s.name: s.datatype for s in facts.signature.outputs}
        self._floats = [n for n, d in self._outputs if DATATYPES[d].is_float]
        self.input_names = tuple(s.name for s in facts.signature.inputs)
        # The public method looks at every input again and costs 1.7 µs more.
        self._run = self._session._sess.run
        self.fixed_us, self.per_row_us = self._measure()

    def predicted_us(self, rows: int) -> float:
        """What a run of `rows` rows will take."""
        return self.fixed_us + self.per_row_us * rows

    def gains_from_joining(self, rows: int) -> bool:
        """Whether a run of so many rows is the cheaper for being one with others.

        Never with control flow: there one row can decide how long all of them run.
        """
        if not (self.facts.batches and self.facts.inline):
            return False
        return self.fixed_us >= _SHARED_COST * self.predicted_us(rows)

    def run(
        self, arrays: Mapping[str, NDArray[Any]], options: onnxruntime.RunOptions | None = None
    ) -> Arrays:
        """Run on the inputs that this version reads; further ones in `arrays` are left alone.

        Names, datatypes and classes are the endpoint's, whatever the file's own are.
        Raises ModelFailed (ModelTimedOut when `options.terminate` was set meanwhile,
        NonFiniteOutput on NaN or infinity), or InvalidInput for text that is not UTF-8.
        """
        try:
            feed = {name: arrays[name] for name in self.input_names}
        except KeyError as missing:
            raise InvalidInput(
                "inputs", f"input {missing} is missing; version {self.facts.version} reads it"
            ) from None
        if self._mapping is not None:
            feed = to_model(self._mapping, feed)
        if self._texts:
            _decode_texts(feed, self._texts)
        try:
            results = self._run(self._names, feed, options)
        except Exception as error:  # onnxruntime raises several unrelated classes
            if options is not None and options.terminate:
                raise ModelTimedOut(
                    f"version {self.facts.version} ran into its time limit"
                ) from None
            raise ModelFailed(
                f"version {self.facts.version} failed: {_first_line(error)}"
            ) from error
        outputs: Arrays = dict(zip(self._names, results, strict=True))
        self._check(outputs)
        if self._mapping is None:
            return outputs
        return from_model(self._mapping, self.facts.signature, outputs)

    def _check(self, outputs: Arrays) -> None:
        for name in self._floats:
            if first_nonfinite(outputs[name]) is not None:
                raise NonFiniteOutput(
                    f"version {self.facts.version} gave NaN or infinity in output {name}"
                )
        for name, datatype in self._outputs:
            if datatype == "BYTES":
                outputs[name] = _encoded(outputs[name])

    def _measure(self) -> tuple[float, float]:
        one = self._fastest_us(1)
        if one is None:
            # The model refuses made-up inputs: let real ones run in a thread.
            return INLINE_BUDGET_US + 1, 0.0
        if not self.facts.batches:
            return one, 0.0
        rows = _MEASURED_ROWS if one <= INLINE_BUDGET_US else _MEASURED_LONG_ROWS
        many = self._fastest_us(rows)
        per_row = 0.0 if many is None else max(0.0, (many - one) / (rows - 1))
        return max(0.0, one - per_row), per_row

    def _fastest_us(self, rows: int) -> float | None:
        mapping = self._mapping
        feed = example_inputs(self.facts.signature.inputs, rows=rows)
        best = float("inf")
        deadline = time.perf_counter() + 1.0
        for _ in range(10):
            begun = time.perf_counter()
            try:
                self._session.run(self._names, feed if mapping is None else to_model(mapping, feed))
            except Exception:  # the same unrelated classes as in run
                return None
            best = min(best, time.perf_counter() - begun)
            if time.perf_counter() > deadline:
                break
        return best * 1e6


def _is_answered(facts: VersionFacts, output: str) -> bool:
    """Whether an output of the file is asked for: onnxruntime leaves out what nobody reads."""
    return facts.mapping is None or any(one.source == output for one in facts.mapping.outputs)


def open_session(
    content: bytes, *, folder: Path | None = None, providers: Sequence[str] = ("cpu",)
) -> onnxruntime.InferenceSession:
    """A session on one thread that does not spin. Raises InvalidModel if it does not load."""
    usable = session_providers(providers)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if folder is not None:
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(folder)
        )
    try:
        return onnxruntime.InferenceSession(content, options, providers=usable)
    except Exception as error:  # as in run
        raise InvalidModel(f"onnxruntime cannot load the model: {_first_line(error)}") from error


def example_inputs(specs: tuple[TensorSpec, ...], *, rows: int, ramp: bool = False) -> Arrays:
    """Made-up inputs: zeros (or a ramp, so that rows differ), empty text; dynamic dims are 1."""
    return {spec.name: _example(spec, rows, ramp=ramp) for spec in specs}


def _example(spec: TensorSpec, rows: int, *, ramp: bool) -> NDArray[Any]:
    shape = [1 if dim < 0 else dim for dim in spec.shape]
    if spec.shape and spec.shape[0] < 0:
        shape[0] = rows
    if spec.datatype == "BYTES":
        return np.full(shape, "", dtype=object)
    array = np.zeros(shape, dtype=DATATYPES[spec.datatype].dtype)
    if ramp:
        array += (np.arange(array.size).reshape(shape) % 7).astype(array.dtype)
    return array


def _decode_texts(feed: Arrays, names: list[str]) -> None:
    for name in names:
        array = feed[name]
        try:
            texts = [v if isinstance(v, str) else v.decode() for v in array.reshape(-1)]
        except UnicodeDecodeError as error:
            raise InvalidInput(f"inputs.{name}", "the text must be UTF-8") from error
        decoded = np.empty(len(texts), dtype=object)
        decoded[:] = texts
        feed[name] = decoded.reshape(array.shape)


def _encoded(array: NDArray[Any]) -> NDArray[Any]:
    encoded = np.empty(array.size, dtype=object)
    encoded[:] = [str(text).encode() for text in array.reshape(-1)]
    return encoded.reshape(array.shape)


def _first_line(error: Exception) -> str:
    text = str(error).strip().split("\n", 1)[0]
    return text[:300] or type(error).__name__
