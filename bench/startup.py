"""Row 15: a warm start of `treadle up`, minus the import time of the two largest libraries."""

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
# A warm start uses the byte code that earlier starts have written.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def startup() -> list[Figure]:
    """Measure row 15."""
    _import_duration()
    imports = percentile([_import_duration() for _ in range(TIMES)], 0.5)
    with tempfile.TemporaryDirectory(prefix="treadle-bench-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        _start_duration(Path(folder) / "data")
        warm = percentile([_start_duration(Path(folder) / "data") for _ in range(TIMES)], 0.5)
    return [
        reported("15", "bare `import strawberry, langgraph.graph`", imports, "s"),
        at_most(
            "15", "warm `treadle up` → ready, minus the import", warm - imports, 1.5, "s", f"{warm:.2f} s in total"
        ),
    ]


def _import_duration() -> float:
    started_at = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import strawberry, langgraph.graph"], check=True, env=_ENVIRONMENT)
    return time.perf_counter() - started_at


def _start_duration(data: Path) -> float:
    started_at = time.perf_counter()
    command = [sys.executable, "-m", "app.cli", "up", "--port", str(free_port()), "--data-dir", str(data)]
    environment = {**_ENVIRONMENT, "TREADLE_LOG_LEVEL": "warning"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("ready "):
                return time.perf_counter() - started_at
        raise RuntimeError("treadle up ended without being ready")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=START_S)
