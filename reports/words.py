"""Numbers and shapes in a reader's words: milliseconds with three significant digits, MB, percent, points, x faster."""

import datetime as dt
import math
from collections.abc import Iterable, Mapping

from ..bench.metrics import METRICS, SHAPE_KEYS, SHARES, Conditions
from ..bench.results import Comparison, Gate, Measurement

_TITLES = {
    "latency_mean": "mean latency",
    "latency_p50": "p50 latency",
    "latency_p90": "p90 latency",
    "latency_p95": "p95 latency",
    "latency_p99": "p99 latency",
    "latency_end_to_end_p50": "p50 end to end",
    "ttft": "TTFT",
    "tpot": "TPOT",
    "itl": "ITL",
    "e2e_latency": "E2E latency",
    "artifact_bytes": "size",
    "output_tokens_per_second": "output tokens",
    "prefill_tokens_per_second": "prefill tokens",
    "requests_per_second": "requests",
}
_SHAPE_WORDS = {
    "batch_size": "batch",
    "sequence_length": "sequence",
    "prompt_length": "prompt",
    "max_new_tokens": "new tokens",
    "past_length": "past",
}
_SAME_SIZE = 0.02
_FINE_POINTS = 0.1
_NEAR_ONE, _TEN = 1.95, 9.95
_EXACTLY = ".12g"
"""More digits than anyone gives a limit, and fewer than those in which a float is off."""


def title(metric: str) -> str:
    """A metric's name for headings: `latency_p50` is `p50 latency`."""
    return _TITLES.get(metric, metric.replace("_", " "))


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, never in exponent form below a billion: 0.0123, 1.23, 12,345."""
    if not math.isfinite(value):
        return "unbounded" if math.isinf(value) else "not a number"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -digits - 2 or magnitude > 8:  # noqa: PLR2004 - beyond this a row of digits is no longer read
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - magnitude)
    rounded = round(value, decimals)
    if abs(rounded) >= 10 ** (magnitude + 1):
        decimals = max(0, decimals - 1)
    return f"{rounded:,.{decimals}f}"


def quantity(metric: str, value: float) -> str:
    """A value of a metric with its unit: `1.23 ms`, `91.0 MB`, `82.4 %`, `22.7 M`."""
    scaled, unit = _scaled(metric, value)
    shown = f"{scaled:.1f}" if metric in SHARES else significant(scaled)
    return f"{shown} {unit}".rstrip()


def _scaled(metric: str, value: float) -> tuple[float, str]:
    """A value in the unit that a reader expects, and that unit; empty where it has none."""
    unit = METRICS[metric].unit if metric in METRICS else ""
    if metric in SHARES:
        return 100 * value, "%"
    if unit == "bytes":
        return _scaled_bytes(value)
    if metric == "parameters":
        return value / 1e6, "M"
    return value, "" if unit == "1" else unit


def heading_unit(metric: str) -> str:
    """The unit that a column's heading can say once for all its cells; empty where `quantity` chooses one a value."""
    unit = METRICS[metric].unit if metric in METRICS else ""
    return "" if unit in ("1", "bytes") else unit


def megabytes(value: float) -> str:
    """Bytes in MB (10^6), or GB from a thousand of them."""
    scaled, unit = _scaled_bytes(value)
    return f"{significant(scaled)} {unit}"


def _scaled_bytes(value: float) -> tuple[float, str]:
    return (value / 1e9, "GB") if value >= 1e9 else (value / 1e6, "MB")  # noqa: PLR2004 - a GB


def bounds(metric: str, low: float | None, high: float | None) -> str:
    """An interval as in `quantity`, without its unit: `[1.21, 1.25]`; empty where there is none or it is a point."""
    if low is None or high is None or low == high:
        return ""
    ends = [quantity(metric, each).partition(" ")[0] for each in (low, high)]
    if METRICS[metric].unit == "bytes":
        ends = [quantity(metric, each) for each in (low, high)]
    return f"[{ends[0]}, {ends[1]}]"


def speedup(comparison: Comparison) -> str:
    """A ratio of times in words, the faster way round: `4.6x faster`, `1.3x slower`; `as fast` where 1 is inside."""
    factor, low, high = _faster(comparison)
    if low <= 1 <= high:
        return "as fast"
    return f"{_factors(factor)[0]}x faster" if factor > 1 else f"{_factors(1 / factor)[0]}x slower"


def speedup_bounds(comparison: Comparison) -> str:
    """The interval of `speedup` in its own direction: `[4.4, 4.8]`; with an x where it holds 1."""
    factor, low, high = _faster(comparison)
    if low <= 1 <= high:
        return f"[{low:.2f}x, {high:.2f}x]"
    if factor < 1:
        factor, low, high = 1 / factor, 1 / high, 1 / low
    _, first, last = _factors(factor, low, high)
    return f"[{first}, {last}]"


def _faster(comparison: Comparison) -> tuple[float, float, float]:
    """The factor by which the candidate is faster, with its bounds, whichever direction the metric has."""
    ratio = comparison.value, comparison.low, comparison.high
    lower_is_better = METRICS[comparison.metric].direction == "lower"
    return (1 / ratio[0], 1 / ratio[2], 1 / ratio[1]) if lower_is_better else ratio


def _factors(*values: float) -> list[str]:
    """Factors with the digits that the first asks for: two decimals near 1, one below 10, none from there."""
    decimals = 2 if values[0] < _NEAR_ONE else 1 if values[0] < _TEN else 0
    return [f"{value:,.{decimals}f}" for value in values]


def change(comparison: Comparison) -> str:
    """A change of quality in words: `-0.2 points`, `+0.4 %` (a ratio)."""
    decimals = _decimals(comparison)
    if comparison.kind == "difference" and comparison.metric in SHARES:
        return f"{_signed(100 * comparison.value, decimals)} points"
    if comparison.kind == "ratio":
        return f"{_signed(100 * (comparison.value - 1), decimals)} %"
    return f"{'+' if comparison.value > 0 else ''}{quantity(comparison.metric, comparison.value)}"


def change_bounds(comparison: Comparison) -> str:
    """The interval of `change`: `[-0.5, +0.1]`."""
    if comparison.kind == "difference" and comparison.metric not in SHARES:
        return bounds(comparison.metric, comparison.low, comparison.high)
    shift = 1 if comparison.kind == "ratio" else 0
    decimals = _decimals(comparison)
    low, high = (_signed(100 * (each - shift), decimals) for each in (comparison.low, comparison.high))
    return f"[{low}, {high}]"


def _decimals(comparison: Comparison) -> int:
    """One decimal, or two where the interval would vanish in one."""
    return 2 if 100 * (comparison.high - comparison.low) / 2 < _FINE_POINTS else 1


def _signed(value: float, decimals: int) -> str:
    text = f"{value:+.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def smaller(candidate: float | None, baseline: float | None) -> str:
    """How much smaller an artifact is: `4.0x smaller`, `same size`, `1.2x larger`; empty where a size is unknown."""
    if not candidate or not baseline:
        return ""
    factor = baseline / candidate
    if abs(factor - 1) < _SAME_SIZE:
        return "same size"
    return f"{factor:.1f}x smaller" if factor > 1 else f"{1 / factor:.1f}x larger"


def shape(conditions: Conditions, *, among: Iterable[Conditions] = ()) -> str:
    """A shape in words: `batch 1, sequence 32`; what all shapes `among` share is left out where others differ."""
    others = list(among)
    varying = {key for key in conditions if any(each.get(key) != conditions[key] for each in others)}
    shown = {key: value for key, value in conditions.items() if key in varying or not others}
    shown = shown or dict(conditions)
    ordered = sorted(shown.items(), key=lambda item: SHAPE_KEYS.index(item[0]) if item[0] in SHAPE_KEYS else 99)
    return ", ".join(
        f"{_SHAPE_WORDS.get(key, key.replace('_', ' '))} {value}"
        for key, value in ordered
        if key != "threads" or key in varying
    )


def interval(measurement: Measurement) -> str:
    """The interval of a measurement, or plus-minus its standard error where it has only that; else empty."""
    if measurement.low is not None and measurement.high is not None:
        return bounds(measurement.metric, measurement.low, measurement.high)
    if measurement.standard_error is not None and measurement.value is not None:
        return f"± {significant(measurement.standard_error, 2)}"
    return ""


def standard_error(metric: str, error: float | None) -> str:
    """A standard error in the unit of its metric, which is not repeated: `± 0.52`, `± 0.0123`; empty where there is none."""
    if error is None:
        return ""
    return f"± {significant(100 * error if metric in SHARES else error, 2)}"


def limit(gate: Gate) -> str:
    """A rule's limit in words, not rounded as measured values are: `at most 1.03x`, `at least -1 points`, `at most 2.345 ms`."""
    ((bound, value),) = gate.limit.items()
    side = "at most" if bound == "max" else "at least"
    if gate.compare == "ratio":
        return f"{side} {value:{_EXACTLY}}x"
    if gate.compare == "difference" and gate.metric in SHARES:
        return f"{side} {100 * value:+{_EXACTLY}} points"
    scaled, unit = _scaled(gate.metric, value)
    return f"{side} {scaled:{_EXACTLY}} {unit}".rstrip()


def rule(gate: Gate, reference: str) -> str:
    """A rule in words: `p50 latency at most 1.03x that of torch-fp32`."""
    against = {"ratio": f" that of {reference}", "difference": f" against {reference}", "value": ""}[gate.compare]
    within = f" within each {column_of(gate)}" if "slice" in gate.conditions else ""
    return f"{title(gate.metric)} {limit(gate)}{against}{within}"


def column_of(gate: Gate) -> str:
    """The data column of a gate on a slice such as `language=de`; empty where it is on all examples."""
    return str(gate.conditions.get("slice", "")).partition("=")[0]


def moment(date: str) -> str:
    """A date of ISO 8601 as `24 Nov 2026, 14:10 UTC`; as it is where it is no such date."""
    try:
        found = dt.datetime.fromisoformat(date)
    except ValueError:
        return date
    return f"{found.day} {found:%b %Y, %H:%M} {found:%Z}".rstrip()


def conditions_text(conditions: Mapping[str, int | float | str]) -> str:
    """Conditions as they stand in the files: `batch_size=1 sequence_length=32`."""
    return " ".join(f"{key}={value}" for key, value in conditions.items())
