"""The `treadle` command as tests have it."""

import subprocess
from typing import Protocol


class Treadle(Protocol):
    """Starts `treadle` with these arguments, and these settings alone; the process is stopped when the test is over."""

    def __call__(self, *arguments: object, **settings: str) -> "subprocess.Popen[str]": ...
