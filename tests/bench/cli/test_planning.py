"""`--plan`: which rules nothing that a config measures would decide, told before anything is started."""

import re
from typing import Any

import pytest
from weighbridge.bench.cli.planning import never_measured, print_plan
from weighbridge.bench.config import parse_config
from weighbridge.bench.metrics import ModelKind
from weighbridge.bench.rules import rules_of
from weighbridge.bench.running import Options

MEASURE = {"batch_sizes": [1, 8], "sequence_lengths": [32]}


def told(rule: dict[str, Any], kind: ModelKind = "classifier", **measure: Any) -> str:
    data = {
        "workload": {"name": "w", "task": "text-classification", "model": "m", "data": "d.csv"},
        "measure": {**MEASURE, **measure},
        "gates": {"rules": [rule]},
    }
    config = parse_config(data, "test")
    (made,) = rules_of(config.gates, kind)
    return never_measured(made, config, kind)


@pytest.mark.parametrize(
    ("rule", "kind", "sentence"),
    [
        ({"metric": "tpot", "max": 1.0}, "classifier", "It cannot be decided: it needs a generator."),
        ({"metric": "throughput", "min": 1.0}, "decoder", "It cannot be decided: it needs a classifier."),
        (
            {"metric": "sustained_rate", "min": 1.0},
            "classifier",
            "It cannot be decided: it needs a classifier, measure.rates and measure.latency_limit.",
        ),
        (
            {"metric": "latency_p50", "max": 1.0, "conditions": {"batch_size": 64}},
            "classifier",
            "It will hardly be decided: batch_size 64 is not among those measured (1, 8, best).",
        ),
        (
            {"metric": "latency_p50", "max": 1.0, "conditions": {"concurrency": 1}},
            "classifier",
            "It will hardly be decided: concurrency 1 is not among those measured (none).",
        ),
        ({"metric": "latency_p50", "max": 1.0, "conditions": {"batch_size": 8, "threads": 1}}, "classifier", ""),
        ({"metric": "throughput", "min": 1.0, "conditions": {"batch_size": "best"}}, "classifier", ""),
        ({"metric": "artifact_bytes", "max": 1.0}, "decoder", ""),
    ],
)
def test_what_is_never_measured_is_told(rule: dict[str, Any], kind: ModelKind, sentence: str) -> None:
    """A metric of other models, rates that are not given and shapes that are not measured are named; the rest is not."""
    assert told(rule, kind) == sentence


def test_calls_from_end_to_end_need_a_caller_alone() -> None:
    """Where only several callers at once are measured, a rule on the time from end to end cannot be decided; by default it can."""
    rule = {"metric": "latency_end_to_end_p50", "max": 1.0}
    assert told(rule, concurrency=[2]).startswith(
        "It cannot be decided: it needs a classifier with data, a caller alone"
    )
    assert told(rule) == ""


def test_shapes_from_end_to_end_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Two batch sizes are two shapes, and four where a rule on the time from end to end has each timed so too."""
    workload = {"name": "w", "task": "text-classification", "model": "m", "data": "d.csv"}
    counts = []
    for metric in ("latency_p50", "latency_end_to_end_p50"):
        data = {"workload": workload, "measure": MEASURE, "gates": {"rules": [{"metric": metric, "max": 1.0}]}}
        print_plan(parse_config(data, "test"), Options())
        counts += re.findall(r"at up to (\d+) shapes", " ".join(capsys.readouterr().out.split()))
    assert counts == ["2", "4"]


def test_a_rate_that_is_given_is_measured() -> None:
    """With rates and a limit the sustained rate can be decided, and so can a latency at one of the rates."""
    given = {"rates": [20, 50], "latency_limit": {"latency_p95": 20}}
    assert told({"metric": "sustained_rate", "min": 1.0}, **given) == ""
    assert told({"metric": "latency_p50", "max": 1.0, "conditions": {"rate": 20}}, **given) == ""
