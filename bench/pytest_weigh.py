"""The `weigh` fixture: judge a variant of the configured run by the test's rules, or two functions of its own."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from ..optimize.errors import BuildError, ConfigError, WeighbridgeError, one_of
from .callables import Weighing
from .callables import weigh as weigh_functions
from .config import Config, find_config, parse_config
from .functions import Function
from .pytest_marks import MARKS, Mark
from .pytest_runs import Asked, asked_of, config_files, runs_of
from .pytest_verdicts import refuse, settle, settle_gates, warn_of_gain
from .results import Gate, Results
from .rules import Rule, column_of, rules_of
from .running import kind_of


class Weigh:
    """Callable with the name of a variant; `compare` takes two functions."""

    def __init__(self, node: pytest.Item, hindrance: str) -> None:
        self._node = node
        self._hindrance = hindrance

    def __call__(self, variant: str) -> tuple[Gate, ...]:
        """Judge a variant by the rules of the test's markers and of the config; return its verdicts where all pass.

        The config is weighed at the first call in the session, with the rules of all selected tests.
        """
        self._need_quiet()
        try:
            gates = self._gates(variant)
        except WeighbridgeError as error:
            refuse(error)
        settle_gates(self._node, gates)
        return gates

    def compare(self, old: Function, new: Function, *, max_ratio: float = 1.03, **options: Any) -> Weighing:
        """Weigh `new` against `old`, both called without arguments; `options` are those of `weighbridge.bench.weigh`."""
        self._need_quiet()
        try:
            weighing = weigh_functions(old, new, max_ratio=max_ratio, **options)
        except WeighbridgeError as error:
            refuse(error)
        if weighing.suspicious:
            warn_of_gain(self._node, weighing.sentence)
        settle(self._node, [(weighing.verdict, " ".join((weighing.sentence, *weighing.notices)))])
        return weighing

    def _need_quiet(self) -> None:
        if self._hindrance:
            refuse(f"not evaluated: {self._hindrance}")

    def _gates(self, variant: str) -> tuple[Gate, ...]:
        """The verdicts on a variant by the rules of the test and of the config.

        Raises:
            WeighbridgeError: the variant is no candidate of the config or not usable, or no rule judges it.
        """
        marks = self._node.config.stash.get(MARKS, {})
        mark = marks.get(self._node.nodeid, Mark())
        asked = _configured_run(self._node.config)
        _need_candidate(variant, asked.config, mark)
        rules = _rules_on(variant, asked.config, mark)
        results = runs_of(self._node.config).of(_with_rules(asked, marks.values())).results
        _need_usable(variant, results)
        ours = (gate for gate in results.gates if gate.variant == variant)
        return tuple(gate for gate in ours if any(_comes_of(rule, gate) for rule in rules))


def _configured_run(config: pytest.Config) -> Asked:
    """The run of the one config of this session.

    Raises:
        ConfigError: there is none, or several, or it cannot be meant.
    """
    files = config_files(config) or [find_config(config.invocation_params.dir)]
    if len(files) > 1:
        raise ConfigError(f"`weigh` judges the variants of one config; given {', '.join(map(str, files))}")
    return asked_of(files[0])


def _with_rules(asked: Asked, marks: Iterable[Mark]) -> Asked:
    """The run with the rules of all markers beside the config's own: the looks and the error rate are shared by all."""
    rules = list(asked.config.gates.rules)
    for rule in (rule for mark in marks for rule in mark.rules):
        if rule not in rules:
            rules.append(rule)
    data = asked.config.model_dump(mode="json", exclude_none=True)
    data["gates"]["rules"] = [rule.model_dump(mode="json", exclude_none=True) for rule in rules]
    return replace(asked, config=parse_config(data, "the config with the rules of the weighbridge markers"))


def _need_candidate(variant: str, config: Config, mark: Mark) -> None:
    names = [each.name for each in config.variants]
    for name in filter(None, (mark.baseline, variant)):
        if name not in names:
            raise ConfigError(one_of("variant", name, names))
    baseline = config.baseline.name
    if mark.baseline not in (None, baseline):
        raise ConfigError(
            f"the marker's baseline is {mark.baseline}, the run's is {baseline}, and all tests share one run: "
            f"set baseline = true at {mark.baseline} in the config, or name {baseline} in the marker"
        )
    if variant == baseline:
        raise ConfigError(f"{variant} is the baseline, which the others are judged against; weigh a candidate")
    if mark.variants and variant not in mark.variants:
        raise ConfigError(f"the marker's rules are for {', '.join(mark.variants)}; add {variant} to its variants")


def _need_usable(variant: str, results: Results) -> None:
    for row in results.variants:
        if row.name in (variant, results.baseline.name) and row.status != "ok":
            raise BuildError(f"{variant} was not evaluated: {row.name} is {row.status} ({row.reason})")


def _rules_on(variant: str, config: Config, mark: Mark) -> list[Rule]:
    """The rules that judge a variant in a test: the config's, then its markers'; the run has those of other tests besides.

    Raises:
        ConfigError: there is none.
    """
    gates = config.gates.model_copy(update={"rules": (*config.gates.rules, *mark.rules)})
    rules = [rule for rule in rules_of(gates, kind_of(config)) if not rule.variants or variant in rule.variants]
    if not rules:
        raise ConfigError(
            f"no rule judges {variant}: give the test a marker with a limit, such as "
            '@pytest.mark.weighbridge(max_ratio={"latency_p50": 0.6}), or the config [gates] rules or a preset'
        )
    return rules


def _comes_of(rule: Rule, gate: Gate) -> bool:
    return (
        (rule.metric, rule.compare, {rule.bound: rule.limit}) == (gate.metric, gate.compare, gate.limit)
        and rule.conditions.items() <= gate.conditions.items()
        and column_of(gate.conditions) == rule.slice
    )
