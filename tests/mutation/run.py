"""Change modules at one place at a time, and report which changes no test notices.

    python tests/mutation/run.py --modules "engine/graph/*.py" --sample 20 --seed 1

Runs on a copy of the checkout, with Cosmic Ray from an environment of its own; see docs/mutation_testing.md.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
import warnings
from dataclasses import dataclass, field
from difflib import unified_diff
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from cosmic_ray.commands.init import _all_work_items as all_work_items  # type: ignore[import-not-found]
from cosmic_ray.mutating import mutate_code, use_mutation  # type: ignore[import-not-found]
from cosmic_ray.plugins import get_operator  # type: ignore[import-not-found]

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).with_name("mutants.toml")
SLOWER_THAN_THE_TESTS = 5
"""A mutant that takes this many times as long as the unchanged module counts as killed: it loops."""
LEAST_LIMIT_S = 10.0
"""The least time that the tests of a mutant get, in seconds, because other processes may be busy."""
NO_PROGRAM = ("@dataclass(", "if TYPE_CHECKING:")
"""The beginnings of lines that are left out: no program depends on `slots`, `frozen` and imports of types."""
HEADINGS = "| Module | Mutants | Tried | Killed | Of these too slow | Explained | Others |"
NOT_STARTED = 99
"""The exit code of forked_tests.py if it could not start pytest. All others except 0 mean that a test failed."""


@dataclass
class Verdict:
    """What became of the mutants of one module."""

    module: str
    mutants: int
    killed: int = 0
    too_slow: int = 0
    """How many of the killed ones took too long, with no test that failed."""
    explained: int = 0
    """How many of the others have no effect; mutants.toml says why."""
    survivors: list[str] = field(default_factory=list)

    @property
    def row(self) -> str:
        tried = self.killed + self.explained + len(self.survivors)
        counts = (self.mutants, tried, self.killed, self.too_slow, self.explained, len(self.survivors))
        return " | ".join([f"| `{self.module}`", *map(str, counts)]) + " |"


def main() -> int:
    arguments = _arguments()
    config = tomllib.loads(CONFIG.read_text())
    modules = [name for name in config["modules"] if any(fnmatch(name, one) for one in arguments.modules.split())]
    if not modules:
        sys.exit(f"no module of {CONFIG.relative_to(ROOT)} matches {arguments.modules}")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    sample = arguments.sample or ("none" if arguments.line else "all")
    print(f"modules: {len(modules)}, sample: {sample}, seed: {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="treadle-mutants-") as folder:
        # Postgres runs as an unprivileged user, who must be able to enter this folder.
        Path(folder).chmod(0o711)
        _copy(Path(folder))
        os.chdir(folder)
        with Tests() as tests:
            verdicts = [_judge(module, config, arguments, tests) for module in modules]
    print(f"\n{HEADINGS}\n{'|---' * HEADINGS.count(' |')}|")
    print("\n".join(verdict.row for verdict in verdicts))
    return 1 if any(verdict.survivors for verdict in verdicts) else 0


def _stop(number: int, _: object) -> None:
    """Exit by an exception, so that the tests end and the copy is removed."""
    sys.exit(128 + number)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--modules", default="*", help="patterns of module paths, separated by spaces")
    parser.add_argument("--sample", type=int, default=0, help="mutants of each module; 0: all, or none with --line")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--line", action="append", default=[], help="all mutants of lines with this text, before or after"
    )
    parser.add_argument("--verbose", action="store_true", help="print which test notices each mutant")
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
    subprocess.run([str(ROOT / ".venv/bin/python"), *compile_all], cwd=folder, check=True)


def _judge(module: str, config: dict[str, Any], arguments: argparse.Namespace, tests: "Tests") -> Verdict:
    """Run the tests of a module on each mutant of the sample."""
    paths = config["modules"][module]
    limit_s = max(LEAST_LIMIT_S, SLOWER_THAN_THE_TESTS * tests.unchanged_s(paths))
    items = _mutants(module, config["excluded_operators"])
    verdict = Verdict(module, len(items))
    for item in _chosen(module, items, arguments):
        mutation = item.mutations[0]
        operator = get_operator(mutation.operator_name)()
        with use_mutation(mutation.module_path, operator, mutation.occurrence) as (before, after):
            answer = tests.run(paths, limit_s)
        if answer["code"] == NOT_STARTED:
            sys.exit(f"the tests of {module} could not be started:\n{answer['output']}")
        print({None: "t", 0: "!"}.get(answer["code"], "."), end="", flush=True)
        if answer["code"] != 0:
            verdict.killed += 1
            verdict.too_slow += answer["code"] is None
            if arguments.verbose:
                print(f" {mutation.operator_name} in line {mutation.start_pos[0]}: {_noticed_by(answer)}", flush=True)
        else:
            difference = "\n".join(unified_diff(before.split("\n"), after.split("\n"), module, module, "", "", 2, ""))
            reason = _explanation(module, _changed_line(before, after), config["explained"])
            if reason:
                verdict.explained += 1
            else:
                verdict.survivors.append(difference)
            print(f"\nsurvived: {mutation.operator_name}: {reason or 'a test is missing'}\n{difference}", flush=True)
    print(f"\n{verdict.row}", flush=True)
    return verdict


def _explanation(module: str, mutant: str, explained: list[dict[str, Any]]) -> str:
    """Return why a mutant has no effect, if mutants.toml has its changed line, or else an empty text."""
    known = [one for one in explained if one["module"] == module]
    return next((one["why"] for one in known if any(_packed(line) in _packed(mutant) for line in one["lines"])), "")


def _packed(line: str) -> str:
    return re.sub(r"\s", "", line)


def _changed_line(before: str, after: str) -> str:
    """Return the first line of a mutant that differs from the unchanged module."""
    lines = zip(before.split("\n"), after.split("\n"), strict=False)
    return next(new for old, new in lines if old != new)


def _noticed_by(answer: dict[str, Any]) -> str:
    """Return the test that failed, from the output of pytest."""
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", answer["output"], re.MULTILINE)
    return failed[-1] if failed else "a time limit" if answer["code"] is None else f"exit code {answer['code']}"


def _chosen(module: str, items: list[Any], arguments: argparse.Namespace) -> list[Any]:
    """Return a random sample of the mutants, and all mutants of the lines that contain a text of `--line`."""
    size = arguments.sample or (0 if arguments.line else len(items))
    sample = random.Random(f"{arguments.seed} {module}").sample(items, min(size, len(items)))
    lines = [any(text in line for text in arguments.line) for line in Path(module).read_text().splitlines()]
    named = [item for item in items if lines[item.mutations[0].start_pos[0] - 1]]
    return [*sample, *(item for item in named if item not in sample)]


class Tests:
    """The process that runs the tests; see forked_tests.py. A context manager."""

    def __init__(self) -> None:
        command = [str(ROOT / ".venv/bin/python"), "tests/mutation/forked_tests.py"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Tests":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        if kind is not None:
            self._process.send_signal(signal.SIGINT)
        self._process.wait()

    def run(self, paths: list[str], limit_s: float, **options: Any) -> dict[str, Any]:
        """Run tests. Returns their exit code (None: they took longer than `limit_s`), duration and output."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"tests": paths, "limit_s": limit_s, **options}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def unchanged_s(self, paths: list[str]) -> float:
        """Return how long the tests of the unchanged module take, in seconds; they must pass."""
        answer = self.run(paths, 600, imports=True)
        if answer["code"] != 0:
            sys.exit(f"the tests fail without a mutant:\n{' '.join(paths)}\n{answer['output']}")
        print(f"\n{answer['seconds']:.1f} s without a mutant: {' '.join(paths)}", flush=True)
        return float(answer["seconds"])


def _mutants(module: str, excluded: list[str]) -> list[Any]:
    """Return the mutants of a module, in an order that is the same in each run."""
    unwanted = re.compile("|".join(excluded))
    source = Path(module).read_text()
    items = [item for item in all_work_items([Path(module)], {}) if not unwanted.match(item.mutations[0].operator_name)]
    types = [number for number, line in enumerate(source.splitlines(), 1) if line.startswith(NO_PROGRAM)]
    items = [item for item in items if item.mutations[0].start_pos[0] not in types]
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
