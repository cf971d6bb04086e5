"""Rules: a metric, how it is compared, its limit, and where it holds; presets are ready-made rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .config import GatesConfig, RuleConfig
from .evidence import Evidence
from .metrics import END_TO_END, METRICS, Conditions, Kind, ModelKind
from .speed import BEST
from .stats import least_n

ALWAYS_SLICED = ("accuracy", "agreement")
"""Metrics that are given within every slice; others only where a rule asks for them there."""
_OF_REFERENCES = frozenset({"bleu", "rouge1", "rouge2", "rougeL", "exact_match"})


@dataclass(frozen=True)
class Rule:
    """One rule; `maximum` says whether `limit` is the highest value allowed or the lowest.

    Without conditions it holds at every shape measured; the best of the batch sizes, and one past length of a request's, are judged
    only where they are named. With `slice` it holds within each value of that data column, without it on all examples together.
    """

    metric: str
    compare: Kind
    limit: float
    maximum: bool
    variants: tuple[str, ...] = ()
    conditions: Conditions = field(default_factory=dict)
    slice: str | None = None

    @property
    def bound(self) -> str:
        """`max` or `min`."""
        return "max" if self.maximum else "min"

    @property
    def words(self) -> str:
        """The rule in words: `accuracy difference at least -0.01 within each language`."""
        within = f" within each {self.slice}" if self.slice is not None else ""
        return f"{self.metric} {self.compare} at {'most' if self.maximum else 'least'} {self.limit:g}{within}"

    def concerns(self, evidence: Evidence) -> bool:
        """Whether the rule judges this evidence: same metric, a variant that it names (or all), its conditions met."""
        return (
            evidence.metric == self.metric
            and self.compare in evidence.kinds
            and (not self.variants or evidence.variant in self.variants)
            and all(evidence.conditions.get(key) == value for key, value in self.conditions.items())
            and (evidence.conditions.get("batch_size") != BEST or "batch_size" in self.conditions)
            and ("past_length" not in evidence.conditions or "past_length" in self.conditions)
            and column_of(evidence.conditions) == self.slice
        )


def column_of(conditions: Conditions) -> str | None:
    """The data column of a slice such as `language=de`; None where the conditions name no slice."""
    return str(conditions["slice"]).partition("=")[0] if "slice" in conditions else None


def needs_of(name: str) -> str:
    """What a run must have for a metric to be measured, in words; empty where every run measures it."""
    found = METRICS[name]
    if name == "sustained_rate":
        return "it needs a classifier, measure.rates and measure.latency_limit"
    if found.raw:
        return "it needs a classifier with data, a caller alone, and measure.end_to_end = true"
    if name in _OF_REFERENCES:
        return "it needs a generator and a column of references, workload.columns.reference"
    if name == "build_time":
        return "it needs variants that are built, not existing artifacts"
    if found.of is None:
        return ""
    kind = "a classifier" if found.of == "classifier" else "a generator"
    labels = " and labelled evaluation data" if found.family == "quality" and found.of == "classifier" else ""
    return f"it needs {kind}{'' if name == 'agreement' else labels}"


def metrics_in_slices(rules: Sequence[Rule]) -> set[str]:
    """The metrics that are given within slices: accuracy and agreement, and what a rule judges there."""
    return {*ALWAYS_SLICED, *(rule.metric for rule in rules if rule.slice is not None)}


def rules_of(gates: GatesConfig, kind: ModelKind) -> tuple[Rule, ...]:
    """The preset's rules, then the config's own."""
    return (*_preset(gates.preset, kind), *(_rule(each) for each in gates.rules))


def least_calls_for(rules: Sequence[Rule], shape: Conditions, latency_limit: Mapping[str, float] | None = None) -> int:
    """The timed calls a replicate that the percentiles of these rules need at a shape; 0 where they need none.

    A rule on the sustained rate needs those of the percentile that `latency_limit` names, at every rate.
    """
    judged = [
        rule.metric
        for rule in rules
        if METRICS[rule.metric].raw == (END_TO_END in shape)
        and all(shape.get(key) == value for key, value in rule.conditions.items())
    ]
    if "sustained_rate" in judged and "rate" in shape:
        judged += latency_limit or {}
    percentiles = [METRICS[metric].percentile for metric in judged]
    return max((least_n(each / 100) for each in percentiles if each is not None), default=0)


def _rule(config: RuleConfig) -> Rule:
    limit = config.max if config.max is not None else config.min
    return Rule(
        config.metric,
        config.compare,
        float(limit or 0.0),
        config.max is not None,
        config.variants,
        config.conditions,
        config.column,
    )


def _preset(name: str, kind: ModelKind) -> Sequence[Rule]:
    """CONTRACT presets: no-regression in speed and quality; MLPerf's 99 % and 99.9 % of the reference quality."""
    if kind == "decoder":
        quality = {"no-regression": 1.01, "mlperf-99": 1.01, "mlperf-99.9": 1.001}
        rules = [Rule("perplexity", "ratio", quality[name], maximum=True)] if name in quality else []
        return [Rule("tpot", "ratio", 1.03, maximum=True), *rules] if name == "no-regression" else rules
    if name == "no-regression":
        return [
            Rule("latency_p50", "ratio", 1.03, maximum=True),
            Rule("accuracy", "difference", -0.01, maximum=False),
        ]
    share = {"mlperf-99": 0.99, "mlperf-99.9": 0.999}
    return [Rule("accuracy", "ratio", share[name], maximum=False)] if name in share else []
