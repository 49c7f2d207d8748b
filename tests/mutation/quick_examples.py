"""A pytest plugin for runs on mutants: the same examples each time, none made smaller, and no test that hangs.

The search for the smallest failing example takes minutes, and a mutant needs any example.
"""

import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import Phase, settings

settings.register_profile("mutants", phases=(Phase.explicit, Phase.generate), derandomize=True, database=None)
settings.load_profile("mutants")
LIMIT_S = 20.0
"""The time in seconds after which a test hangs, and so fails. All tests of mutants.toml take less."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """End the process when a test hangs: a mutant may wait for what never comes."""
    signal.signal(signal.SIGALRM, lambda *_: _end(item))
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _end(item: pytest.Item) -> None:
    """End the process, and name the test that hangs as pytest names a test that fails."""
    reporter = item.config.pluginmanager.getplugin("terminalreporter")
    assert reporter
    reporter.write_line(f"\nFAILED {item.nodeid} hangs")
    reporter.flush()
    os._exit(pytest.ExitCode.TESTS_FAILED)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write the names of the imported libraries to a file, if forked_tests.py asks for them."""
    if target := os.environ.get("TREADLE_MUTATION_IMPORTS"):
        files = [(name, getattr(module, "__file__", None) or "") for name, module in list(sys.modules.items())]
        own = str(session.config.rootpath)
        libraries = [name for name, file in files if file and not file.startswith(own)]
        Path(target).write_text("\n".join(name for name in libraries if name != "__main__"))
