"""A model-serving gateway with shadow evaluation. What stands here holds for every process."""

import os

# onnxruntime's wheels for Linux collect events for their maker: a database below the home folder
# and a thread that uploads from it. Whoever wants that sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
