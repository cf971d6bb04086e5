"""Rules: a metric, how it is compared, its limit, and where it holds; presets are ready-made rules."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..optimize.errors import NotAvailableYetError
from .config import GatesConfig, RuleConfig
from .evidence import Evidence
from .metrics import Conditions, Kind, metric

ModelKind = Literal["classifier", "decoder"]


@dataclass(frozen=True)
class Rule:
    """One rule; `maximum` says whether `limit` is the highest value allowed or the lowest."""

    metric: str
    compare: Kind
    limit: float
    maximum: bool
    variants: tuple[str, ...] = ()
    conditions: Conditions = field(default_factory=dict)

    @property
    def bound(self) -> str:
        """`max` or `min`."""
        return "max" if self.maximum else "min"

    def concerns(self, evidence: Evidence) -> bool:
        """Whether the rule judges this evidence: same metric, a variant that it names (or all), its conditions met."""
        return (
            evidence.metric == self.metric
            and self.compare in evidence.kinds
            and (not self.variants or evidence.variant in self.variants)
            and all(evidence.conditions.get(key) == value for key, value in self.conditions.items())
        )


def rules_of(gates: GatesConfig, kind: ModelKind) -> tuple[Rule, ...]:
    """The preset's rules, then the config's own.

    Raises:
        NotAvailableYetError: a rule on a metric or a slice that this release does not measure.
    """
    return (*_preset(gates.preset, kind), *(_rule(each) for each in gates.rules))


def _rule(config: RuleConfig) -> Rule:
    if not metric(config.metric).measured:
        raise NotAvailableYetError(
            f"the metric {config.metric} is not measured yet in this release; remove the rule on it"
        )
    if config.slice is not None:
        raise NotAvailableYetError(
            f"slice = '{config.slice}' is not available yet in this release; remove it from the rule"
        )
    limit = config.max if config.max is not None else config.min
    return Rule(
        config.metric, config.compare, float(limit or 0.0), config.max is not None, config.variants, config.conditions
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
