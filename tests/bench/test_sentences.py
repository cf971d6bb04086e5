"""Verdicts in words: what was measured is rounded, what was asked for is not."""

import pytest
from weighbridge.bench.deciding import JudgingPlan
from weighbridge.bench.evidence import Exact, Interval
from weighbridge.bench.rules import Rule
from weighbridge.bench.sentences import sentence


def said(rule: Rule) -> str:
    """The sentence on a candidate whose value of 1.23456 is exact."""
    piece = Exact("a", rule.metric, {}, 1.0, 1.23456)
    return sentence(rule, piece, Interval(1.23456, 1.2, 1.3, 1), "pass", "base", JudgingPlan(), (0.01, 0.01))


@pytest.mark.parametrize(
    ("rule", "limit"),
    [
        (Rule("latency_p50", "ratio", 1.03, maximum=True), "at most 1.03x"),
        (Rule("latency_p50", "ratio", 1.0000002, maximum=True), "at most 1.0000002x"),
        (Rule("accuracy", "difference", -0.01, maximum=False), "at least -1.00 points"),
        (Rule("accuracy", "difference", 0.29, maximum=False), "at least +29.00 points"),
        (Rule("accuracy", "difference", -0.00125, maximum=False), "at least -0.125 points"),
        (Rule("accuracy", "value", 0.99995, maximum=False), "at least 0.99995"),
        (Rule("latency_p50", "difference", 0.12345, maximum=True), "at most 0.12345 ms"),
        (Rule("artifact_bytes", "value", 22_900_431.0, maximum=True), "at most 22900431 bytes"),
    ],
)
def test_a_limit_is_told_as_it_was_given(rule: Rule, limit: str) -> None:
    """No digit of a limit is rounded away, in whatever words it is told; points have two decimals at least."""
    assert f", limit {limit}: pass (exact)" in said(rule)


def test_measured_values_stay_rounded() -> None:
    """Four digits of the value stand beside all five of the limit."""
    assert said(Rule("latency_p50", "value", 2.3456, maximum=True)) == (
        "a: latency_p50 1.235 ms [1.2 ms, 1.3 ms], limit at most 2.3456 ms: pass (exact); "
        "an absolute time holds for this session only"
    )
