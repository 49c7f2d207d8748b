"""Row 15: a warm start of everything, beyond what importing the two big libraries takes."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.measures import Figure, at_most, percentile, reported
from bench.processes import ROOT, START_S, free_port

TIMES = 5
# Warm is with the byte code of before, as on any machine that has not been told to keep none.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def startup() -> list[Figure]:
    _imports()
    imports = percentile([_imports() for _ in range(TIMES)], 0.5)
    with tempfile.TemporaryDirectory(prefix="treadle-bench-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        _until_ready(Path(folder) / "data")
        warm = percentile([_until_ready(Path(folder) / "data") for _ in range(TIMES)], 0.5)
    return [
        reported("15", "bare `import strawberry, langgraph.graph`", imports, "s"),
        at_most("15", "warm `treadle up` → ready, beyond that", warm - imports, 1.5, "s", f"{warm:.2f} s in all"),
    ]


def _imports() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import strawberry, langgraph.graph"], check=True, env=_ENVIRONMENT)
    return time.perf_counter() - began


def _until_ready(data: Path) -> float:
    began = time.perf_counter()
    command = [sys.executable, "-m", "app.cli", "up", "--port", str(free_port()), "--data-dir", str(data)]
    environment = {**_ENVIRONMENT, "TREADLE_LOG_LEVEL": "warning"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("ready "):
                return time.perf_counter() - began
        raise RuntimeError("treadle up ended without being ready")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=START_S)
