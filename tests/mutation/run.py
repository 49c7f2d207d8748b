"""Change modules at one place at a time, and report which changes no test notices.

    python tests/mutation/run.py --modules "engine/graph/*.py" --sample 20 --seed 1

Runs on a copy of the checkout, with Cosmic Ray from an environment of its own; see docs/mutation_testing.md.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from cosmic_ray.commands.init import _all_work_items as all_work_items  # type: ignore[import-not-found]
from cosmic_ray.mutating import mutate_and_test, mutate_code  # type: ignore[import-not-found]
from cosmic_ray.plugins import get_operator  # type: ignore[import-not-found]
from cosmic_ray.work_item import TestOutcome  # type: ignore[import-not-found]

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).with_name("mutants.toml")
SLOWER_THAN_THE_TESTS = 5
"""A mutant that takes this many times as long as the unchanged module counts as killed: it loops."""


@dataclass
class Verdict:
    """What became of the mutants of one module."""

    module: str
    mutants: int
    killed: int = 0
    survivors: list[str] = field(default_factory=list)

    @property
    def row(self) -> str:
        return f"| `{self.module}` | {self.mutants} | {self.killed + len(self.survivors)} | {self.killed} |"


def main() -> int:
    arguments = _arguments()
    config = tomllib.loads(CONFIG.read_text())
    modules = [name for name in config["modules"] if any(fnmatch(name, one) for one in arguments.modules.split())]
    if not modules:
        sys.exit(f"no module of {CONFIG.relative_to(ROOT)} matches {arguments.modules}")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    print(f"modules: {len(modules)}, sample: {arguments.sample or 'all'}, seed: {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="treadle-mutants-") as folder:
        # Postgres runs as an unprivileged user, who must be able to enter this folder.
        Path(folder).chmod(0o711)
        _copy(Path(folder))
        os.chdir(folder)
        verdicts = [_judge(module, config, arguments) for module in modules]
    print("\n| Module | Mutants | Tried | Killed |\n|---|---|---|---|")
    print("\n".join(verdict.row for verdict in verdicts))
    return 1 if any(verdict.survivors for verdict in verdicts) else 0


def _stop(number: int, _: object) -> None:
    """End the tests that run, which Cosmic Ray has started in a session of their own, and exit."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    for child in map(int, children):
        with suppress(ProcessLookupError):
            os.killpg(os.getpgid(child), signal.SIGTERM)
    sys.exit(128 + number)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--modules", default="*", help="patterns of module paths, separated by spaces")
    parser.add_argument("--sample", type=int, default=0, help="mutants of each module; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def _copy(folder: Path) -> None:
    """Copy the files of the checkout, and compile them so that a change of a file is always seen."""
    listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    compile_all = ["-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "."]
    subprocess.run([_python(), *compile_all], cwd=folder, check=True)


def _python() -> str:
    return str(ROOT / ".venv/bin/python")


def _judge(module: str, config: dict[str, Any], arguments: argparse.Namespace) -> Verdict:
    """Run the tests of a module on each mutant of the sample."""
    command = " ".join(
        [_python(), "-m pytest -q -x -p no:cacheprovider -p tests.mutation.quick_examples", *config["modules"][module]]
    )
    limit_s = SLOWER_THAN_THE_TESTS * _unchanged_s(command)
    items = _mutants(module, config["excluded_operators"])
    verdict = Verdict(module, len(items))
    chosen = random.Random(f"{arguments.seed} {module}").sample(items, min(arguments.sample or len(items), len(items)))
    for item in chosen:
        result = mutate_and_test(mutations=item.mutations, test_command=command, timeout=limit_s)
        if result.test_outcome is TestOutcome.KILLED:
            verdict.killed += 1
        elif result.test_outcome is TestOutcome.INCOMPETENT:
            sys.exit(f"the tests of {module} could not be started:\n{result.output}")
        else:
            verdict.survivors.append(result.diff)
            print(f"\nsurvived: {item.mutations[0].operator_name}\n{result.diff}", flush=True)
    print(verdict.row, flush=True)
    return verdict


def _unchanged_s(command: str) -> float:
    """Return how long the tests of the unchanged module take; they must pass."""
    began = time.monotonic()
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    # In a group of its own, as Cosmic Ray starts the others, for `_stop`.
    options: dict[str, Any] = {"capture_output": True, "text": True, "start_new_session": True}
    done = subprocess.run(command.split(), env=environment, check=False, **options)
    if done.returncode:
        sys.exit(f"the tests fail without a mutant:\n{command}\n{done.stdout[-4000:]}")
    return time.monotonic() - began


def _mutants(module: str, excluded: list[str]) -> list[Any]:
    """Return the mutants of a module, in an order that is the same in each run."""
    unwanted = re.compile("|".join(excluded))
    source = Path(module).read_text()
    items = [item for item in all_work_items([Path(module)], {}) if not unwanted.match(item.mutations[0].operator_name)]
    items = [item for item in items if _is_program(source, item.mutations[0])]
    return sorted(items, key=lambda item: (item.mutations[0].operator_name, item.mutations[0].occurrence))


def _is_program(source: str, mutation: Any) -> bool:
    """Return whether the mutant can be imported; Cosmic Ray takes the `*` of parameters for a product."""
    line, column = mutation.end_pos
    if source.splitlines()[line - 1][column : column + 1] == ",":
        return False
    mutant = mutate_code(source, get_operator(mutation.operator_name)(), mutation.occurrence)
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(mutant, mutation.module_path, "exec")
    except SyntaxError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
