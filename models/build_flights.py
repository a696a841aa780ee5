"""Build the example models: `python models/build_flights.py --output DIR`.

Needs the extra `audition[examples]`. Everything but the command line is in
`gateway/demo/training.py`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gateway.demo.flights import load_flights
from gateway.demo.training import write_example_models


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the example models of the flights.")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="model repository to write"
    )
    output = parser.parse_args().output
    endpoint_file = Path(__file__).parent / "flights" / "endpoint.yaml"
    for path in write_example_models(load_flights(), directory=output, endpoint_file=endpoint_file):
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
