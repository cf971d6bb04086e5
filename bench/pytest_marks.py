"""What the `weighbridge` markers of a test ask: rules, validated as a config's are, and against which baseline."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from ..optimize.errors import ConfigError, one_of
from ..optimize.recipe import explain
from .config import RuleConfig
from .metrics import METRICS, Kind


@dataclass(frozen=True)
class Mark:
    """What one test asks for.

    Attributes:
        rules: of all its markers.
        baseline: the name that the run's baseline must have; None for any.
        variants: those that the test may weigh; empty for every candidate.
    """

    rules: tuple[RuleConfig, ...] = ()
    baseline: str | None = None
    variants: tuple[str, ...] = ()


MARKS = pytest.StashKey[dict[str, Mark]]()
"""The marks of all selected tests that have one, by node id."""


@dataclass(frozen=True)
class _Limit:
    """What a marker's argument means as a rule; `worse` is the direction in which it bounds a difference."""

    compare: Kind
    bound: Literal["min", "max"]
    worse: Literal["down", "up", ""] = ""


_LIMITS = {
    "max_ratio": _Limit("ratio", "max"),
    "min_ratio": _Limit("ratio", "min"),
    "max_drop": _Limit("difference", "min", "down"),
    "max_rise": _Limit("difference", "max", "up"),
    "max_value": _Limit("value", "max"),
    "min_value": _Limit("value", "min"),
}
_WHERE = ("variants", "conditions", "slice")


def mark_of(item: pytest.Item) -> Mark:
    """Read all `weighbridge` markers of a test; of several baselines the one nearest to the test counts.

    Raises:
        ConfigError: a marker cannot be meant, or the test does not ask for the `weigh` fixture that would judge by it.
    """
    markers = list(item.iter_markers("weighbridge"))
    own = [marker for marker in item.own_markers if marker.name == "weighbridge"]
    if own and "weigh" not in getattr(item, "fixturenames", ()):
        raise ConfigError(
            f"{item.nodeid}: the marker weighbridge judges nothing by itself; take the fixture `weigh` and call weigh(VARIANT)"
        )
    try:
        rules = [rule for marker in markers for rule in _rules(marker)]
    except ConfigError as error:
        raise ConfigError(f"{item.nodeid}: marker weighbridge: {error}") from error
    baselines = [marker.kwargs["baseline"] for marker in markers if marker.kwargs.get("baseline") is not None]
    variants = [name for marker in markers for name in marker.kwargs.get("variants", ())]
    return Mark(tuple(rules), next(iter(baselines), None), tuple(dict.fromkeys(variants)))


def _rules(marker: pytest.Mark) -> Iterator[RuleConfig]:
    if marker.args:
        raise ConfigError(
            f'it takes named arguments only, such as max_ratio={{"latency_p50": 0.6}}; given {marker.args}'
        )
    for name in marker.kwargs:
        if name not in (*_LIMITS, *_WHERE, "baseline"):
            raise ConfigError(one_of("argument", name, (*_LIMITS, *_WHERE, "baseline")))
    if not isinstance(marker.kwargs.get("variants", ()), list | tuple):
        raise ConfigError(f'variants must be a list, such as ["onnxruntime-int8"]; given {marker.kwargs["variants"]!r}')
    where = {key: marker.kwargs[key] for key in _WHERE if key in marker.kwargs}
    for name, limit in _LIMITS.items():
        for metric, value in _limits(name, marker.kwargs.get(name, {})).items():
            yield _rule(name, limit, metric, value, where)


def _limits(name: str, given: Any) -> Mapping[str, float]:
    numbers = isinstance(given, Mapping) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in given.values()
    )
    if not numbers:
        raise ConfigError(f'{name} must give a number for each metric, such as {{"latency_p50": 0.6}}; given {given!r}')
    limits: Mapping[str, float] = given
    return limits


def _rule(name: str, limit: _Limit, metric: str, value: float, where: Mapping[str, Any]) -> RuleConfig:
    bound = -value if limit.worse == "down" else value
    try:
        rule = RuleConfig.model_validate({"metric": metric, "compare": limit.compare, limit.bound: bound, **where})
    except ValidationError as error:
        raise ConfigError(f"{name}: {explain(error, RuleConfig)}") from error
    if limit.worse:
        _check_difference(name, limit, metric, value)
    return rule


def _check_difference(name: str, limit: _Limit, metric: str, value: float) -> None:
    """A drop (or a rise) is one for the worse, and its size is not below 0."""
    worse = "down" if METRICS[metric].direction == "higher" else "up"
    if worse != limit.worse:
        other = next(key for key, each in _LIMITS.items() if each.worse == worse)
        raise ConfigError(f"{name}: of {metric} {METRICS[metric].direction} is better; give {other}")
    if value < 0:
        raise ConfigError(f"{name}: {metric} is given {value:g}; it is the size of a change for the worse, from 0")
