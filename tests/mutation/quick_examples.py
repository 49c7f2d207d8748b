"""A pytest plugin for runs on mutants: the same examples each time, and none is made smaller.

The search for the smallest failing example takes minutes, and a mutant needs any example.
"""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import Phase, settings

settings.register_profile("mutants", phases=(Phase.explicit, Phase.generate), derandomize=True, database=None)
settings.load_profile("mutants")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write the names of the imported libraries to a file, if forked_tests.py asks for them."""
    if target := os.environ.get("TREADLE_MUTATION_IMPORTS"):
        files = [(name, getattr(module, "__file__", None) or "") for name, module in list(sys.modules.items())]
        own = str(session.config.rootpath)
        libraries = [name for name, file in files if file and not file.startswith(own)]
        Path(target).write_text("\n".join(name for name in libraries if name != "__main__"))
