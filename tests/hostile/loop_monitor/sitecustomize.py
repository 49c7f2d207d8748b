"""Records how long the event loop of a Treadle process could not run (`make hostile`).

Python imports this module at the start of a process whose PYTHONPATH names its folder. A timer on the
event loop measures from one tick to the next the CPU time of its own thread, and that of the whole
process, in which other threads may hold Python's lock. CPU time does not depend on other processes of a
busy machine. Each stretch above MIN_S is written as a JSON line to `<LOOP_MONITOR>/<pid>`, with
the place in the code that another thread has seen.
"""

import os
import sys
from pathlib import Path

INTERVAL_S = 0.005
MIN_S = 0.02
"""CPU time of the shortest stretch that is recorded, in seconds."""
FRAMES = 14


def _install(folder: str) -> None:
    import asyncio
    import gc
    import json
    import threading
    import time
    import traceback
    from typing import Any

    import uvloop

    class Monitor:
        def __init__(self) -> None:
            self._thread = threading.get_ident()
            self._clock = time.pthread_getcpuclockid(self._thread)
            self._start()
            self._collecting_since = 0.0
            self._file = (Path(folder) / str(os.getpid())).open("a", buffering=1)
            gc.callbacks.append(self._note_collection)
            threading.Thread(target=self._watch, daemon=True).start()

        def _start(self) -> None:
            self._thread_s, self._process_s = time.thread_time(), time.process_time()
            self._places: list[list[str]] = []

        def _note_collection(self, phase: str, info: dict[str, int]) -> None:
            """Note a collection that took long. It holds Python's lock, so no other thread sees it."""
            if phase == "start":
                self._collecting_since = time.thread_time()
            elif (spent_s := time.thread_time() - self._collecting_since) > MIN_S:
                self._places = [[f"collection of generation {info['generation']}, {spent_s * 1000:.0f} ms"]]

        def _watch(self) -> None:
            while True:
                time.sleep(INTERVAL_S)
                busy_s = time.clock_gettime(self._clock) - self._thread_s
                if not self._places and max(busy_s, time.process_time() - self._process_s - 0.05) > MIN_S:
                    self._places = [_place(frame) for frame in sys._current_frames().values()]

        def tick(self, loop: asyncio.AbstractEventLoop) -> None:
            thread_s, process_s = time.thread_time() - self._thread_s, time.process_time() - self._process_s
            if max(thread_s, process_s - 0.05) > MIN_S:
                line = {"at": time.monotonic(), "s": thread_s, "process_s": process_s, "places": self._places}
                self._file.write(json.dumps(line) + "\n")
            self._start()
            loop.call_later(INTERVAL_S, self.tick, loop)

    def _place(frame: Any) -> list[str]:
        return [f"{item.name} {item.filename[-50:]}:{item.lineno}" for item in traceback.extract_stack(frame)[-FRAMES:]]

    run = uvloop.Loop.run_until_complete

    def monitored_run(loop: uvloop.Loop, future: Any) -> Any:
        loop.call_soon(Monitor().tick, loop)
        return run(loop, future)

    uvloop.Loop.run_until_complete = monitored_run  # type: ignore[method-assign]


if (_folder := os.environ.get("LOOP_MONITOR")) and "app.cli" in sys.orig_argv:
    _install(_folder)
