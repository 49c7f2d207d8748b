"""Loads the built-in trigger kinds and those of packages (entry point `treadle.triggers`).

A package that cannot be loaded does not affect the others: it is left out and logged by the caller.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import structlog
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from engine.invalid_values import sentence
from engine.problems import FieldProblem, join_path
from engine.sdk.plugins import load_error
from engine.sdk.trigger import TriggerConfig, TriggerKind
from engine.triggers.poll import PollKind
from engine.triggers.redis_stream import RedisStreamKind
from engine.triggers.run_finished import RunFinishedKind
from engine.triggers.schedule import ScheduleKind
from engine.triggers.webhook import WebhookKind
from engine.types import JSON
from engine.values.storable import check_storable

log = structlog.get_logger(__name__)

GROUP = "treadle.triggers"
BUILT_IN: tuple[type[TriggerKind[Any]], ...] = (ScheduleKind, WebhookKind, PollKind, RedisStreamKind, RunFinishedKind)


@cache
def installed_trigger_kinds() -> Mapping[str, TriggerKind[Any]]:
    """Return the kinds of this process, by name. A package that cannot be loaded is logged once."""
    broken: dict[str, str] = {}
    kinds = load_trigger_kinds(broken)
    for name, problem in broken.items():
        log.warning("triggers.kind_not_loaded", kind=name, problem=problem)
    return kinds


def load_trigger_kinds(broken: dict[str, str] | None = None) -> dict[str, TriggerKind[Any]]:
    """Load every trigger kind, by name. A package cannot replace a kind that exists already.

    Args:
        broken: Receives why an entry point could not be loaded, by its name.
    """
    kinds: dict[str, TriggerKind[Any]] = {kind.name: kind() for kind in BUILT_IN}
    for entry in entry_points(group=GROUP):
        try:
            kind = _load(entry)
            if kind.name in kinds:
                raise ValueError(f"there is a trigger kind {kind.name!r} already")
            kinds[kind.name] = kind
        except (Exception, SystemExit) as fault:  # third-party code may raise anything
            if broken is not None:
                broken[entry.name] = load_error(entry, fault)
    return kinds


def _load(entry: EntryPoint) -> TriggerKind[Any]:
    """Load and check the kind of an entry point: a class or an instance. May raise anything."""
    loaded = entry.load()
    kind = loaded() if isinstance(loaded, type) else loaded
    if not isinstance(kind, TriggerKind):
        raise TypeError("is no TriggerKind")
    for name in ("name", "title", "description"):
        if not isinstance(getattr(kind, name, None), str):
            raise TypeError(f"`{name}` must be a string")
    if not issubclass(kind.Config, TriggerConfig):
        raise TypeError("its Config is no TriggerConfig")
    check_storable([kind.Config.model_json_schema(), kind.event_schema, kind.example])
    return kind


def read_config(kind: TriggerKind[Any], config: JSON) -> tuple[TriggerConfig | None, list[FieldProblem]]:
    """Validate the config of a trigger.

    Returns:
        The config and no problems, or None and every problem. Paths begin with `config`.
    """
    try:
        return kind.Config.model_validate(config), []
    except ValidationError as error:
        found = [*error.errors(), *_other_conflicts(kind, config, error)]
        return None, [FieldProblem(_path(one["loc"]), "CONFIG", sentence(one)) for one in found]


def _other_conflicts(kind: TriggerKind[Any], config: JSON, error: ValidationError) -> Iterator[ErrorDetails]:
    """Find the conflicts between valid fields, which pydantic does not look for if a field is not valid."""
    wrong = {one["loc"][0] for one in error.errors() if one["loc"]}
    if not wrong or not isinstance(config, dict):
        return
    try:
        kind.Config.model_validate({key: value for key, value in config.items() if key not in wrong})
    except ValidationError as rest:
        for one in rest.errors():
            if not one["loc"] and wrong.isdisjoint(one.get("ctx", {}).get("fields", wrong)):
                yield one


def config_of(kinds: Mapping[str, TriggerKind[Any]], name: str, config: JSON) -> tuple[TriggerKind[Any], Any]:
    """Return the kind and the config of a stored trigger.

    Raises:
        ValueError: The kind is not installed, or the config is not valid for it any more.
    """
    if (kind := kinds.get(name)) is None:
        raise ValueError(f"the trigger kind {name!r} is not installed on this host")
    parsed, problems = read_config(kind, config)
    if parsed is None:
        raise ValueError("; ".join(f"{one.field}: {one.message}" for one in problems))
    return kind, parsed


def _path(location: tuple[int | str, ...]) -> str:
    path = "config"
    for part in location:
        path = join_path(path, part)
    return path
