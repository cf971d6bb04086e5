"""`--plan`: which rules nothing that a config measures would decide, told before anything is started."""

import re
from typing import Any

import pytest
from weighbridge.bench.cli.planning import never_measured, print_plan
from weighbridge.bench.config import parse_config
from weighbridge.bench.metrics import ModelKind
from weighbridge.bench.rules import rules_of
from weighbridge.bench.running import Options
from weighbridge.optimize import cuda_availability
from weighbridge.optimize.probing import Probe

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


def planned(data: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    print_plan(parse_config(data, "test"), Options())
    return " ".join(capsys.readouterr().out.split())


def test_shapes_from_end_to_end_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Two batch sizes are two shapes, and four where a rule on the time from end to end has each timed so too."""
    workload = {"name": "w", "task": "text-classification", "model": "m", "data": "d.csv"}
    counts = []
    for metric in ("latency_p50", "latency_end_to_end_p50"):
        data = {"workload": workload, "measure": MEASURE, "gates": {"rules": [{"metric": metric, "max": 1.0}]}}
        counts += re.findall(r"at up to (\d+) shapes", planned(data, capsys))
    assert counts == ["2", "4"]


@pytest.mark.parametrize(
    ("task", "shapes"),
    [("text-generation", 2 * 3 * 2), ("text-classification", 2 * 4), ("image-classification", 2)],
)
def test_the_shapes_of_a_task_are_counted(task: str, shapes: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a generator every prompt length with every output length, of texts every length, of images the batch sizes alone."""
    measure = {
        "batch_sizes": [1, 8],
        "sequence_lengths": [8, 16, 32, 64],
        "prompt_lengths": [8, 32, 128],
        "max_new_tokens": [4, 64],
    }
    data = {"workload": {"name": "w", "task": task, "model": "m", "data": "d"}, "measure": measure}
    assert f"at up to {shapes} shapes" in planned(data, capsys)


def test_the_device_decides_what_is_available(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU no variant can run on one: none is counted, and the one that a rule names is told.

    The examples that the rule needs are those at half the error rate, for two candidates share it, whether they can run or not:
    (2.5758 + 0.8416)^2 * 0.02 / 0.01^2 = 2335.8.
    """
    monkeypatch.setattr(cuda_availability, "probe", lambda _: Probe(0, "built without CUDA", ""))
    cuda_availability.torch_on_cuda.cache_clear()
    variants = [
        {"backend": "torch", "precision": each, "baseline": each == "fp32"} for each in ("fp32", "bf16", "int8")
    ]
    rule = {"metric": "accuracy", "compare": "difference", "min": -0.01, "variants": ["torch-bf16"]}
    data = {
        "workload": {"name": "w", "task": "text-classification", "model": "m", "data": "d.csv"},
        "variants": variants,
        "gates": {"rules": [rule]},
    }
    for device, usable in (("cpu", 3), ("cuda", 0)):
        printed = planned({**data, "measure": {"device": device}}, capsys)
        assert f"{usable} variants and the baseline's twin" in printed
        assert ("torch-bf16 is named by a rule but unavailable" in printed) == (device == "cuda")
        assert "It needs about 2,336 examples" in printed
    cuda_availability.torch_on_cuda.cache_clear()


def test_a_rate_that_is_given_is_measured() -> None:
    """With rates and a limit the sustained rate can be decided, and so can a latency at one of the rates."""
    given = {"rates": [20, 50], "latency_limit": {"latency_p95": 20}}
    assert told({"metric": "sustained_rate", "min": 1.0}, **given) == ""
    assert told({"metric": "latency_p50", "max": 1.0, "conditions": {"rate": 20}}, **given) == ""
