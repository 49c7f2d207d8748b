"""The type of the fixture that starts the `treadle` command."""

import subprocess
from typing import Protocol


class Treadle(Protocol):
    """Starts `treadle` with these arguments and only these settings.

    The process ends with the test.
    """

    def __call__(self, *arguments: object, **settings: str) -> "subprocess.Popen[str]": ...
