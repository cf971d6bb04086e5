"""Looking things up in a run's results: the main metrics, the shapes, one measurement, one comparison."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, TypeVar

from ..bench.metrics import Conditions
from ..bench.results import Comparison, Gate, Measurement, Results, VariantRow

_SPEED = ("latency_p50", "tpot", "ttft", "e2e_latency", "latency_mean")
_QUALITY = ("accuracy", "perplexity", "agreement")
_THROUGHPUT = ("throughput", "output_tokens_per_second")

_Row = TypeVar("_Row", Measurement, Comparison)


class Findings:
    """A run's results with an index, so that many variants and shapes are looked up quickly.

    Attributes:
        results: the results.
        baseline: the name of the variant that the others are compared with; empty where none is marked.
        reference: what the verdicts compare with: the baseline, or the saved run that the run was judged against.
        speed: the speed that variants are compared by: p50 latency of classifiers, time per output token of generators.
        quality: what is set against speed: accuracy, perplexity, or agreement where there are no labels; None: nothing.
        throughput: samples a second, or output tokens a second; None where neither was measured.
    """

    def __init__(self, results: Results) -> None:
        self.results = results
        self.baseline = next((row.name for row in results.variants if row.baseline), "")
        self.reference = results.reference or self.baseline
        measured = {each.metric for each in results.measurements if each.value is not None}
        self.speed = _first(_SPEED, measured) or _SPEED[0]
        self.quality = _first(_QUALITY, measured)
        self.throughput = _first(_THROUGHPUT, measured)
        self.is_generator = "ttft" in measured

    @cached_property
    def shapes(self) -> list[Conditions]:
        """Every shape at which the main speed was measured, in order, without repeats; a past length is a part of one."""
        rows: list[Measurement | Comparison] = [*self.results.measurements, *self.results.comparisons]
        main = [each for each in rows if each.metric == self.speed and "past_length" not in each.conditions]
        found = {tuple(each.conditions.items()): each.conditions for each in main}
        return list(found.values())

    @cached_property
    def _measurements(self) -> dict[tuple[str, str], list[Measurement]]:
        index = defaultdict(list)
        for each in self.results.measurements:
            index[each.variant, each.metric].append(each)
        return index

    @cached_property
    def _comparisons(self) -> dict[tuple[str, str, str], list[Comparison]]:
        index: dict[tuple[str, str, str], list[Comparison]] = defaultdict(list)
        for each in self.results.comparisons:
            index[each.variant, each.metric, each.kind].append(each)
        return index

    @cached_property
    def _gates(self) -> dict[str, list[Gate]]:
        index = defaultdict(list)
        for gate in self.results.gates:
            index[gate.variant].append(gate)
        return index

    def measurement(self, variant: str, metric: str, conditions: Conditions) -> Measurement | None:
        """The measurement at that shape, or the one that holds for every shape; None where there is neither."""
        return _at(self._measurements.get((variant, metric), ()), conditions)

    def comparison(
        self, variant: str, metric: str, conditions: Conditions, kind: Literal["ratio", "difference"]
    ) -> Comparison | None:
        """The comparison of that kind at that shape, or the one that holds for every shape; None: there is neither."""
        return _at(self._comparisons.get((variant, metric, kind), ()), conditions)

    def exact_measurement(self, variant: str, metric: str, conditions: Conditions) -> Measurement | None:
        """The measurement under exactly these conditions, such as those of a slice; None where there is none."""
        return _exactly(self._measurements.get((variant, metric), ()), conditions)

    def exact_comparison(
        self, variant: str, metric: str, conditions: Conditions, kind: Literal["ratio", "difference"]
    ) -> Comparison | None:
        """The comparison of that kind under exactly these conditions; None where there is none."""
        return _exactly(self._comparisons.get((variant, metric, kind), ()), conditions)

    def quality_change(self, variant: str) -> Comparison | None:
        """How the main quality changed: a difference of accuracies, a ratio of perplexities."""
        if self.quality is None:
            return None
        first, second = ("ratio", "difference") if self.quality == "perplexity" else ("difference", "ratio")
        return self.comparison(variant, self.quality, {}, first) or self.comparison(variant, self.quality, {}, second)  # type: ignore[arg-type]

    def gates(self, variant: str, conditions: Conditions | None = None) -> list[Gate]:
        """The verdicts on a variant; with conditions, those that concern that shape (a slice concerns all)."""
        gates = self._gates.get(variant, [])
        return gates if conditions is None else [gate for gate in gates if _concerns(gate, conditions)]

    def bytes_of(self, row: VariantRow) -> float | None:
        """The size of a variant's artifact in bytes."""
        if row.bytes is not None:
            return row.bytes
        found = self.measurement(row.name, "artifact_bytes", {})
        return found.value if found else None


def _first(names: Sequence[str], measured: set[str]) -> str | None:
    return next((name for name in names if name in measured), None)


def _at(rows: Sequence[_Row], conditions: Conditions) -> _Row | None:
    return _exactly(rows, conditions) or _exactly(rows, {})


def _exactly(rows: Sequence[_Row], conditions: Conditions) -> _Row | None:
    return next((each for each in rows if each.conditions == conditions), None)


def _concerns(gate: Gate, conditions: Conditions) -> bool:
    return all(conditions.get(key) == value for key, value in gate.conditions.items() if key != "slice")
