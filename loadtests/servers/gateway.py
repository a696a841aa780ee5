"""The gateway under test, set up by the environment as an operator would."""

from __future__ import annotations

import sys

from gateway.hosting import serve
from gateway.settings import load_settings

if __name__ == "__main__":
    serve(host="127.0.0.1", port=int(sys.argv[1]), workers=1, settings=load_settings())
