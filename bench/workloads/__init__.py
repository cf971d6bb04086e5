"""What is weighed: one file a kind of model, one file a built-in workload (`builtin_<name>.py` with `WORKLOADS`)."""

import functools
import importlib
import pkgutil

from ...optimize.errors import ConfigError, one_of
from ...optimize.source import Task
from ..config import WorkloadConfig
from .builtin import Builtin

_PREFIX = "builtin_"


@functools.cache
def _builtins() -> dict[str, Builtin]:
    names = (info.name for info in pkgutil.iter_modules(__path__))
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names if name.startswith(_PREFIX))
    found: list[Builtin] = [each for module in modules for each in module.WORKLOADS]
    return {each.name: each for each in found}


def builtin_names() -> tuple[str, ...]:
    """The names of the built-in workloads, sorted."""
    return tuple(sorted(_builtins()))


def builtin(name: str) -> Builtin:
    """Return the built-in workload of that name.

    Raises:
        ConfigError: there is none; the text names the nearest.
    """
    if name not in _builtins():
        raise ConfigError(one_of("workload", name, builtin_names()))
    return _builtins()[name]


def task_of(config: WorkloadConfig) -> Task | None:
    """What a config's model is for: of a built-in workload the workload says it.

    Raises:
        ConfigError: there is no such workload.
    """
    return builtin(config.builtin).task if config.builtin is not None else config.task
