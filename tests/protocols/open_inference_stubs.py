"""The generated modules of open_inference.proto: what they must be, and writing them.

`python -m tests.protocols.open_inference_stubs` writes them beside the file. They are kept in
the repository, so that nobody needs a compiler to serve.

One word of protoc's code is changed: its descriptors go to a pool of their own. In the pool
that all of a process share, a public client's module of the same protocol would clash with
ours, whoever came second: the messages have the same names by the protocol's will.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "gateway" / "protocols"
NAMES = ("open_inference_pb2.py", "open_inference_pb2.pyi")
_SHARED, _OWN = "_descriptor_pool.Default()", "_descriptor_pool.DescriptorPool()"


def generated() -> dict[str, str]:
    """The modules by name, made anew."""
    with tempfile.TemporaryDirectory() as folder:
        plugin = Path(sys.executable).with_name("protoc-gen-mypy")
        command = [
            *(sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={FOLDER}"),
            *(f"--plugin=protoc-gen-mypy={plugin}", "--mypy_opt=quiet"),
            *(f"--python_out={folder}", f"--mypy_out={folder}", "open_inference.proto"),
        ]
        subprocess.run(command, check=True, timeout=60)
        texts = {name: (Path(folder) / name).read_text(encoding="utf-8") for name in NAMES}
    module = texts[NAMES[0]]
    assert module.count(_SHARED) == 1
    texts[NAMES[0]] = module.replace(_SHARED, _OWN)
    return texts


def main() -> None:
    """Write them."""
    for name, text in generated().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
