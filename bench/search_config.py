"""The configs of a search: what is asked for, which variant is searched, its trials, and the run that judges the choice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..optimize.backends import backend
from ..optimize.errors import ConfigError, one_of
from ..optimize.model import Kind
from .config import Config, VariantConfig, parse_config
from .rules import Rule, rules_of
from .search_findings import Metric

_QUANTIZING = ("dynamic-int8", "static-int8", "weight-only")
_BACKEND = "onnxruntime"


@dataclass(frozen=True)
class Wanted:
    """What is searched for.

    Attributes:
        max_drop: accuracy that may be lost against the baseline, as a fraction; of a generator, perplexity that may be added,
            as a share of the baseline's.
        max_seconds: what all trials together may take, builds included; the run at the end is not counted.
        variant: the variant whose layers are tried; None: the first that can be.
    """

    max_drop: float = 0.01
    max_seconds: float = 600.0
    variant: str | None = None


def searched_variant(config: Config, name: str | None) -> VariantConfig:
    """The variant whose layers are tried: the one of that name, or the first that ONNX Runtime quantizes in its last step.

    Raises:
        ConfigError: there is none; the text says what to add.
    """
    fitting = [each for each in config.variants if _can_be_searched(each)]
    names = [each.name for each in config.variants]
    if name is not None and name not in names:
        raise ConfigError(one_of("variant", name, names))
    if name is not None:
        fitting = [each for each in fitting if each.name == name]
    if not fitting:
        which = f"variant '{name}'" if name is not None else "no variant of the config"
        raise ConfigError(
            f'{which} can be searched: search takes layers out of a candidate with backend = "onnxruntime" whose last step is '
            f'{", ".join(_QUANTIZING[:-1])} or {_QUANTIZING[-1]}. Add one: {{ backend = "onnxruntime", precision = "int8" }}'
        )
    return fitting[0]


def _can_be_searched(variant: VariantConfig) -> bool:
    if variant.backend != _BACKEND or variant.artifact or variant.baseline:
        return False
    if not variant.steps:
        return variant.precision in ("int8", "int4")
    return variant.steps[-1].get("use") in _QUANTIZING


def metric_of(kind: Kind) -> Metric:
    """What a search holds to its budget."""
    return "perplexity" if kind == "decoder" else "accuracy"


def budget_rule(kind: Kind, max_drop: float) -> Rule:
    """The budget as a rule of the run that judges."""
    if metric_of(kind) == "perplexity":
        return Rule("perplexity", "ratio", 1 + max_drop, maximum=True)
    return Rule("accuracy", "difference", -max_drop, maximum=False)


def leaving(searched: VariantConfig, kept: Sequence[str], kind: Kind, name: str | None = None) -> VariantConfig:
    """The searched variant of a model of some kind with these layers left in float as well, under a name."""
    if not kept:
        return searched
    steps = searched.steps or _default_steps(searched.precision or "int8", kind)
    excluded = [*steps[-1].get("exclude", ()), *kept]
    changed = {"steps": [*steps[:-1], {**steps[-1], "exclude": excluded}], "name": name or searched.name}
    return VariantConfig.model_validate({**searched.model_dump(), **changed})


def _default_steps(precision: str, kind: Kind) -> tuple[dict[str, Any], ...]:
    return tuple(step.to_dict() for step in backend(_BACKEND).default_steps(precision, kind))


def float_of(searched: VariantConfig) -> VariantConfig:
    """The searched variant without its quantization: in FP32, or in FP16 where a step before made it so."""
    steps = searched.steps[:-1]
    halved = any(step.get("use") == "onnx-half-precision" or step.get("dtype") == "fp16" for step in steps)
    changed = {"steps": steps, "precision": "fp16" if halved else "fp32", "name": "float"}
    return VariantConfig.model_validate({**searched.model_dump(), **changed})


def final_config(
    config: Config,
    kind: Kind,
    max_drop: float,
    searched: VariantConfig,
    kept: Mapping[str, tuple[str, ...]],
    chosen: str,
) -> Config:
    """The run that judges: the baseline, and the searched variant with the layers of `kept` in float, by name.

    The budget and the config's own rules, those for every variant and those for the searched one, are asked of the
    chosen variant alone.
    """
    variants = [config.baseline, *(leaving(searched, layers, kind, name) for name, layers in kept.items())]
    budget = budget_rule(kind, max_drop)
    own = (
        rule
        for rule in rules_of(config.gates, kind)
        if rule != budget and (not rule.variants or searched.name in rule.variants)
    )
    gates = {"required": [chosen], "rules": [_rule_data(rule, chosen) for rule in (budget, *own)]}
    data = config.model_dump(mode="json", exclude_none=True)
    data |= {"variants": [each.model_dump(mode="json", exclude_none=True) for each in variants], "gates": gates}
    return parse_config(data, "search")


def _rule_data(rule: Rule, variant: str) -> dict[str, Any]:
    asked = {
        "metric": rule.metric,
        "compare": rule.compare,
        rule.bound: rule.limit,
        "conditions": dict(rule.conditions),
    }
    return {**asked, "variants": [variant], **({} if rule.slice is None else {"slice": rule.slice})}
