"""A run's results as flat rows with fixed columns: what the CSV file and the data frames are made of."""

from collections.abc import Iterator
from typing import Any

from ..bench.metrics import METRICS, SHAPE_KEYS, Conditions
from ..bench.results import Comparison, Control, Results

RESULT_COLUMNS = (
    "workload",
    "date",
    "commit",
    "record",
    "variant",
    "metric",
    "unit",
    *SHAPE_KEYS,
    "value",
    "low",
    "high",
    "n",
    "standard_error",
    "confidence",
    "note",
)
"""Columns of results.csv. `record` is measurement, ratio, difference or control; `n` counts what the value rests on."""

CONTROL = "<control>"
"""The name of the baseline's twin, as in the samples."""


def result_rows(results: Results) -> Iterator[dict[str, Any]]:
    """One row a measurement, comparison and control, under RESULT_COLUMNS."""
    run = run_columns(results)
    for row in (*measurement_rows(results), *comparison_rows(results), *control_rows(results)):
        yield {**dict.fromkeys(RESULT_COLUMNS), **run, **row}


def run_columns(results: Results) -> dict[str, str]:
    """What tells the rows of several runs apart: workload, date, commit."""
    workload = results.config.get("workload", {}).get("name", "")
    return {"workload": workload, **{key: results.environment.get(key, "") for key in ("date", "commit")}}


def measurement_rows(results: Results) -> Iterator[dict[str, Any]]:
    """One row an absolute value, in the unit of its metric."""
    for each in results.measurements:
        yield {
            "record": "measurement",
            "variant": each.variant,
            "metric": each.metric,
            "unit": each.unit,
            **_shape(each.conditions),
            "value": each.value,
            "low": each.low,
            "high": each.high,
            "n": each.n,
            "standard_error": each.standard_error,
            "note": each.note,
        }


def comparison_rows(results: Results) -> Iterator[dict[str, Any]]:
    """One row a ratio (no unit) or difference (unit of the metric) to the baseline."""
    for each in results.comparisons:
        yield {
            "record": each.kind,
            "variant": each.variant,
            **_compared(each),
            "n": each.replicates,
            "confidence": each.confidence,
        }


def control_rows(results: Results) -> Iterator[dict[str, Any]]:
    """One row a ratio of the baseline's twin to the baseline."""
    for each in results.control:
        yield {"record": "control", "variant": CONTROL, **_compared(each), "n": len(each.per_replicate)}


def gate_rows(results: Results) -> Iterator[dict[str, Any]]:
    """One row a verdict."""
    for gate in results.gates:
        yield {
            "metric": gate.metric,
            "compare": gate.compare,
            "min": gate.limit.get("min"),
            "max": gate.limit.get("max"),
            "variant": gate.variant,
            **_shape(gate.conditions),
            "verdict": gate.verdict,
            "suspicious": gate.suspicious,
            "sentence": gate.sentence,
        }


def _compared(each: Comparison | Control) -> dict[str, Any]:
    difference = isinstance(each, Comparison) and each.kind == "difference"
    unit = METRICS[each.metric].unit if difference and each.metric in METRICS else "1"
    return {
        "metric": each.metric,
        "unit": unit,
        **_shape(each.conditions),
        "value": each.value,
        "low": each.low,
        "high": each.high,
    }


def _shape(conditions: Conditions) -> dict[str, Any]:
    return {key: conditions.get(key) for key in SHAPE_KEYS}
