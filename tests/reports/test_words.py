"""Numbers in a reader's words."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge.bench.results import Comparison, Gate, Measurement
from weighbridge.reports import words


def ratio(value: float, low: float, high: float, metric: str = "latency_p50") -> Comparison:
    return Comparison("x", metric, {}, "ratio", value, low, high, 0.99, 4)


def difference(value: float, low: float, high: float, metric: str = "accuracy") -> Comparison:
    return Comparison("x", metric, {}, "difference", value, low, high, 0.99, 1000)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1.234, "1.23"),
        (0.01234, "0.0123"),
        (999.6, "1,000"),
        (9.996, "10.0"),
        (12345.6, "12,346"),
        (1.2e-9, "1.20e-09"),
        (3.4e12, "3.40e+12"),
        (math.inf, "unbounded"),
        (math.nan, "not a number"),
    ],
)
def test_significant_digits(value: float, text: str) -> None:
    """Three significant digits, a carry into the next power of ten included."""
    assert words.significant(value) == text


@given(st.floats(1e-4, 1e8))
def test_significant_is_close_to_the_value(value: float) -> None:
    """What is printed differs from the value by at most half a unit of its third digit."""
    printed = float(words.significant(value).replace(",", ""))
    assert math.isclose(printed, value, rel_tol=0.0051)


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("latency_p50", 1.2345, "1.23 ms"),
        ("accuracy", 0.8243, "82.4 %"),
        ("artifact_bytes", 90_868_376, "90.9 MB"),
        ("peak_memory", 2.5e9, "2.50 GB"),
        ("parameters", 22_713_216, "22.7 M"),
        ("perplexity", 21.44, "21.4"),
        ("throughput", 793.2, "793 samples/s"),
        ("a metric of tomorrow", 0.5, "0.500"),
    ],
)
def test_quantities_have_sensible_units(metric: str, value: float, text: str) -> None:
    """Each metric is shown in the unit that a reader expects."""
    assert words.quantity(metric, value) == text


@pytest.mark.parametrize(
    ("comparison", "text", "bounds"),
    [
        (ratio(1 / 4.6, 1 / 4.8, 1 / 4.4), "4.6x faster", "[4.4, 4.8]"),
        (ratio(1.25, 1.2, 1.3), "1.25x slower", "[1.20, 1.30]"),
        (ratio(1.01, 0.97, 1.05), "as fast", "[0.95x, 1.03x]"),
        (ratio(0.8, 0.75, 0.9), "1.25x faster", "[1.11, 1.33]"),
        (ratio(1 / 40, 1 / 42, 1 / 38), "40x faster", "[38, 42]"),
        (ratio(2.0, 1.9, 2.1, "throughput"), "2.0x faster", "[1.9, 2.1]"),
        (ratio(0.5, 0.4, 0.8, "throughput"), "2.0x slower", "[1.2, 2.5]"),
    ],
)
def test_speed_is_told_the_faster_way_round(comparison: Comparison, text: str, bounds: str) -> None:
    """A ratio of times, or of rates, becomes a factor in words with its interval in the same direction."""
    assert (words.speedup(comparison), words.speedup_bounds(comparison)) == (text, bounds)


@pytest.mark.parametrize(
    ("comparison", "text", "bounds"),
    [
        (difference(-0.002, -0.005, 0.001), "-0.2 points", "[-0.5, +0.1]"),
        (difference(0.0, -0.0004, 0.0004), "0.00 points", "[-0.04, +0.04]"),
        (ratio(1.004, 1.002, 1.0052, "perplexity"), "+0.4 %", "[+0.2, +0.5]"),
        (difference(0.25, 0.1, 0.4, "perplexity"), "+0.250", "[0.100, 0.400]"),
    ],
)
def test_changes_of_quality(comparison: Comparison, text: str, bounds: str) -> None:
    """Differences of shares are points, ratios are percent, other differences keep their unit."""
    assert (words.change(comparison), words.change_bounds(comparison)) == (text, bounds)


@pytest.mark.parametrize(
    ("candidate", "baseline", "text"),
    [(25, 100, "4.0x smaller"), (99, 100, "same size"), (150, 100, "1.5x larger"), (None, 100, ""), (10, 0, "")],
)
def test_sizes_are_compared(candidate: float | None, baseline: float, text: str) -> None:
    """A size is so many times smaller or larger, the same within 2 %, or unknown."""
    assert words.smaller(candidate, baseline) == text


def test_a_shape_names_what_differs_among_shapes() -> None:
    """Of several shapes only the keys that differ are named; alone everything but the threads is."""
    one, eight = ({"threads": 1, "sequence_length": 32, "batch_size": size} for size in (1, 8))
    assert words.shape(one) == "batch 1, sequence 32"
    assert words.shape(one, among=[one, eight]) == "batch 1"
    assert words.shape({**one, "threads": 2}, among=[one, {**one, "threads": 2}]) == "threads 2"
    assert words.shape({}) == ""


@pytest.mark.parametrize(
    ("gate", "text"),
    [
        (Gate("latency_p50", "ratio", {"max": 1.03}, "x", {}, "pass", ""), "p50 latency at most 1.03x that of base"),
        (
            Gate("accuracy", "difference", {"min": -0.01}, "x", {}, "pass", ""),
            "accuracy at least -1 points against base",
        ),
        (Gate("ttft", "value", {"max": 30}, "x", {}, "pass", ""), "TTFT at most 30 ms"),
    ],
)
def test_rules_in_words(gate: Gate, text: str) -> None:
    """A rule names its metric, its limit and what it is compared with."""
    assert words.rule(gate, "base") == text


@pytest.mark.parametrize(
    ("metric", "compare", "limit", "text"),
    [
        ("latency_p50", "ratio", {"max": 1.0000002}, "at most 1.0000002x"),
        ("accuracy", "difference", {"min": -0.00125}, "at least -0.125 points"),
        ("accuracy", "value", {"min": 0.9995}, "at least 99.95 %"),
        ("latency_p50", "value", {"max": 2.345}, "at most 2.345 ms"),
        ("latency_p50", "difference", {"max": 0.5}, "at most 0.5 ms"),
        ("artifact_bytes", "value", {"max": 22_900_431}, "at most 22.900431 MB"),
        ("peak_memory", "value", {"max": 2.125e9}, "at most 2.125 GB"),
        ("parameters", "value", {"max": 22_713_216}, "at most 22.713216 M"),
        ("perplexity", "value", {"max": 21.4449}, "at most 21.4449"),
    ],
)
def test_limits_are_not_rounded(metric: str, compare: Any, limit: dict[str, float], text: str) -> None:
    """A limit has every digit that was given, in the unit in which values of its metric are read."""
    assert words.limit(Gate(metric, compare, limit, "x", {}, "pass", "")) == text


@pytest.mark.parametrize(
    ("measurement", "text"),
    [
        (Measurement("x", "latency_p50", "ms", {}, 1.0, 0.98, 1.021), "[0.980, 1.02]"),
        (Measurement("x", "artifact_bytes", "bytes", {}, 1.0, 1e6, 2e6), "[1.00 MB, 2.00 MB]"),
        (Measurement("x", "load_time", "ms", {}, 80.0, 80.0, 80.0), ""),
        (Measurement("x", "latency_mean", "ms", {}, 1.0, standard_error=0.0123), "± 0.012"),
        (Measurement("x", "latency_mean", "ms", {}, 1.0), ""),
    ],
)
def test_intervals(measurement: Measurement, text: str) -> None:
    """An interval, else the standard error, else nothing."""
    assert words.interval(measurement) == text


@pytest.mark.parametrize(
    ("date", "text"),
    [("2026-11-24T14:10:00+00:00", "24 Nov 2026, 14:10 UTC"), ("", ""), ("last week", "last week")],
)
def test_dates(date: str, text: str) -> None:
    """An ISO date is written for people; anything else stays as it is."""
    assert words.moment(date) == text
