"""The benchmark: what the gateway costs above a bare server, figure by figure with its bar.

`python -m loadtests.bench [--quick] [--strict] [--json FILE]`

Four servers answer the same row with the same model: bare uvicorn, plain BentoML, the gateway
without a challenger (over REST and over gRPC) and with one in shadow at 100%. A missed bar is
shown; only `--strict` makes it the exit status. docs/performance.md says what each figure means.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from gateway.protocols.open_inference_pb2 import ModelInferRequest
from loadtests import (
    bench_archive,
    bench_codec,
    bench_heavy,
    bench_journal,
    bench_labels,
    bench_shadow,
    bench_startup,
    bench_statistics,
)
from loadtests.bench_figures import Figure, given_figure, serving_figures, show
from loadtests.bench_flights import flights_figures
from loadtests.bench_flips import flips_figures
from loadtests.bench_gateway import Operator, gateway_target, over_grpc
from loadtests.bench_processes import Target, free_port, python, running
from loadtests.bench_rounds import Contestant, Turn, take_turns
from loadtests.servers.tree_model import INPUT, OUTPUT, ROW, WIDTH, train

_ENDPOINT = "trees"
_ENDPOINT_FILE = f'champion: "1"\nprediction:\n  output: {OUTPUT}\n'


def main() -> None:
    """Measure everything and print the table."""
    options = _options()
    # Where nobody has set a width, the names of the figures decide it.
    console = Console() if sys.stdout.isatty() else Console(width=120)
    with tempfile.TemporaryDirectory(prefix="audition-bench-") as name:
        folder = Path(name)
        console.print("training the model and starting four servers …")
        turns = _serve(
            folder, turns=3 if options.quick else 9, seconds=1.0 if options.quick else 2.0
        )
        console.print("flips under load …")
        flips = flips_figures(
            folder / "models", folder / "state-flips", folder / "protocol.json", endpoint=_ENDPOINT
        )
        console.print("the flights models, and what is measured without a server …")
        figures = [*serving_figures(turns), *flips, *flights_figures(folder)]
    labels = bench_labels.figures(100_000 if options.quick else bench_labels.ROWS)
    heavy = bench_heavy.figures(turns=3, seconds=1) if options.quick else bench_heavy.figures()
    archive = bench_archive.figures(100_000 if options.quick else bench_archive.ROWS)
    shadow = bench_shadow.figures(*((10_000, 4.0) if options.quick else ()))
    alone = [*bench_statistics.figures(), *bench_codec.figures(), *bench_journal.figures()]
    alone += bench_startup.figures()
    figures += map(given_figure, [*labels, *heavy, *archive, *shadow, *alone])
    show(console, figures, turns)
    if options.json is not None:
        options.json.write_text(json.dumps(_document(figures, turns), indent=2) + "\n")
    if options.strict and any(figure.passed is False for figure in figures):
        raise SystemExit(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the gateway beside a bare server.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every round here")
    parser.add_argument("--quick", action="store_true", help="few short rounds: a rough look")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a bar is missed")
    return parser.parse_args()


def _serve(folder: Path, *, turns: int, seconds: float) -> list[Turn]:
    """Start the four servers side by side and let them take turns."""
    _write_models(folder / "models" / _ENDPOINT)
    with ExitStack() as stack:
        servers = {
            target.name: stack.enter_context(running(target, log=folder / f"{target.name}.log"))
            for target in _targets(folder)
        }
        operators = {name: Operator(servers[name], _ENDPOINT) for name in ("off", "on")}
        port = int(servers["off"].target.environment["AUDITION_GRPC_PORT"])
        message = _message(folder / "message.pb")
        servers["grpc"] = over_grpc(servers["off"], port=port, message=message)
        operators["grpc"] = operators["off"]
        operators["on"].challenge("2")
        contestants = {
            name: Contestant(
                server, operators[name].wait_caught_up if name in operators else lambda: None
            )
            for name, server in servers.items()
        }
        return take_turns(contestants, turns=turns, seconds=seconds)


def _write_models(endpoint: Path) -> None:
    for seed in (1, 2):
        train(endpoint / str(seed) / "model.onnx", seed=seed)
    (endpoint / "endpoint.yaml").write_text(_ENDPOINT_FILE)


def _targets(folder: Path) -> tuple[Target, ...]:
    environment = {
        "BENCH_MODEL": str(folder / "models" / _ENDPOINT / "1" / "model.onnx"),
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    tensor = {"name": INPUT, "shape": [1, WIDTH], "datatype": "FP32", "data": ROW.tolist()}
    protocol = _body(folder / "protocol.json", {"inputs": [tensor]})
    models = folder / "models"
    return (
        Target(
            name="bare",
            command=python("-m", "loadtests.servers.bare", "{port}"),
            path=f"/v2/models/{_ENDPOINT}/infer",
            bodies=protocol,
            ready_path="/",
            environment=environment,
        ),
        Target(
            name="bentoml",
            command=python(
                *("-m", "bentoml", "serve", "loadtests.servers.plain_bentoml:Plain"),
                *("--host", "127.0.0.1", "--port", "{port}"),
            ),
            path="/infer",
            bodies=_body(folder / "plain.json", {INPUT: [ROW.tolist()]}),
            ready_path="/readyz",
            worker="--service-name Plain",
            environment=environment,
        ),
        *(
            gateway_target(
                name,
                endpoint=_ENDPOINT,
                models=models,
                state=folder / f"state-{name}",
                bodies=protocol,
                grpc_port=free_port() if name == "off" else 0,
            )
            for name in ("off", "on")
        ),
    )


def _body(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content))
    return path


def _message(path: Path) -> Path:
    tensor = ModelInferRequest.InferInputTensor(name=INPUT, datatype="FP32", shape=[1, WIDTH])
    message = ModelInferRequest(
        model_name=_ENDPOINT, inputs=[tensor], raw_input_contents=[ROW.astype("<f4").tobytes()]
    )
    path.write_bytes(message.SerializeToString())
    return path


def _document(figures: Sequence[Figure], turns: Sequence[Turn]) -> dict[str, Any]:
    return {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "figures": [asdict(figure) for figure in figures],
        "turns": [{name: asdict(one) for name, one in turn.items()} for turn in turns],
    }


if __name__ == "__main__":
    main()
