"""Rules: every metric can be named in one, by every comparison that it has, and is then judged; what makes no sense is refused."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from weighbridge.bench.cache_bytes import cache_evidence
from weighbridge.bench.config import GatesConfig
from weighbridge.bench.evidence import Evidence
from weighbridge.bench.evidence_of_run import cost_evidence, speed_evidence
from weighbridge.bench.generated import Generations
from weighbridge.bench.generation_evidence import text_evidence, window_evidence
from weighbridge.bench.judge import Judgement, VariantState, judge
from weighbridge.bench.metrics import END_TO_END, KINDS, METRICS, Kind
from weighbridge.bench.predictions import ClassPredictions, WindowScores
from weighbridge.bench.quality_evidence import quality_evidence, slice_evidence
from weighbridge.bench.rules import Rule, least_calls_for, needs_of, rules_of
from weighbridge.bench.samples import CONTROL, Replicate, key_of
from weighbridge.bench.stats import least_n
from weighbridge.optimize.backends.base import Audit
from weighbridge.optimize.model import CacheSpec, Signature
from weighbridge.optimize.variant import Manifest

STATES = {"base": VariantState("ok"), "a": VariantState("ok")}
DRAW = np.random.default_rng(3)
CALLS = 700
"""Timed calls a replicate, enough for a 99th percentile."""
MEASURED = sorted(METRICS)


def taken(shapes: list[dict[str, int]], parts: int) -> list[Replicate]:
    """Four replicates of a baseline of about 2 ms, its twin and a candidate of half that."""
    replicates = []
    for number in range(1, 5):
        timed, first = {}, {}
        for shape in map(key_of, shapes):
            for name, level in (("base", 2.0), (CONTROL, 2.0), ("a", 1.0)):
                timed[name, shape] = level * np.exp(DRAW.normal(0, 0.01, (CALLS, parts)))
                if END_TO_END not in shape:
                    first[name, shape] = 5 * level * float(np.exp(DRAW.normal(0, 0.01)))
        replicates.append(Replicate(number, timed, first))
    return replicates


def manifest(size: int, kind: str, **cache: Any) -> Manifest:
    """What was built: so many bytes, in as many milliseconds."""
    signature = Signature(kind, (), ("logits",), CacheSpec(**cache) if cache else None)  # type: ignore[arg-type]
    return Manifest(
        backend="fake",
        precision="fp32",
        recipe={"backend": "fake"},
        source={},
        calibration_sha256=None,
        tools={},
        files=(),
        sha256={},
        bytes=size,
        parameters=size // 4,
        sparsity=0.0,
        build_seconds=size / 1e3,
        signature=signature,
        steps=(),
        parity=None,
        audit=Audit(ok=True),
    )


def events() -> list[dict[str, Any]]:
    """What the processes of four replicates tell."""
    facts = {"base": (80.0, 300e6), CONTROL: (80.0, 300e6), "a": (40.0, 200e6)}
    return [
        {
            "event": "replicate",
            "number": number,
            "failed": {},
            "workers": {name: {"load_ms": ms + number, "peak_bytes": peak} for name, (ms, peak) in facts.items()},
        }
        for number in range(1, 5)
    ]


def classifier() -> Iterator[Evidence]:
    """All evidence of a classifier at a shape, at a rate of arrivals, and within the values of a column."""
    shapes = [{"batch_size": 1, "threads": 1}, {"batch_size": 1, "rate": 50, "threads": 1}]
    shapes.append({**shapes[0], END_TO_END: 1})
    replicates = taken(shapes, 1)
    labels = DRAW.integers(0, 3, 400)
    logits = DRAW.standard_normal((400, 3))
    logits[np.arange(400), labels] += 2.0
    slices = {"language": ("de", "fr") * 200}
    classes = {}
    for name, table in (("base", logits), ("a", logits + 0.2 * DRAW.standard_normal((400, 3)))):
        scores = table.astype(np.float32)
        classes[name] = ClassPredictions(labels, scores.argmax(axis=1), scores, ("",) * 400, slices)
    manifests = {"base": manifest(4000, "classifier"), "a": manifest(1000, "classifier")}
    yield from speed_evidence(replicates, "base", "classifier", latency_limit={"latency_p50": 10.0})
    yield from quality_evidence(classes, "base", ("x", "y", "z"))
    yield from slice_evidence(classes, "base", METRICS, ("x", "y", "z"))
    yield from cost_evidence(manifests, events(), replicates, "base")


def generator() -> Iterator[Evidence]:
    """All evidence of a generator that answers forty prompts with references."""
    tokens = DRAW.integers(20, 40, 50).astype(np.float64)
    nll = tokens * DRAW.normal(3, 0.2, 50)
    windows = {
        "base": WindowScores(nll, tokens, 4 * tokens),
        "a": WindowScores(
            nll + tokens * DRAW.normal(0.01, 0.01, 50), tokens, 4 * tokens, tuple(DRAW.exponential(0.01, (50, 4)))
        ),
    }
    manifests = {
        name: manifest(size, "decoder", layers=2, heads=2, head_size=8) for name, size in (("base", 4000), ("a", 1000))
    }
    replicates = taken([{"batch_size": 1, "prompt_length": 8, "max_new_tokens": 9, "threads": 1}], 9)
    yield from speed_evidence(replicates, "base", "decoder")
    yield from window_evidence(windows, "base")
    yield from text_evidence({"base": answers(0.0), "a": answers(0.25)}, "base")
    yield from cache_evidence(manifests, replicates, "base")


def answers(share: float) -> Generations:
    """Forty answers of eight tokens, of which a share ends otherwise and misses its reference."""
    other = np.arange(40) < 40 * share
    texts = tuple("one two three four" + (" and five" if each else "") for each in other)
    tokens = tuple(np.array([1, 2, 3, 4, 1, 2, 3, 4 + each], dtype=np.int64) for each in other)
    margins = tuple(np.ones(8, np.float32) for _ in other)
    references = ("one two three four", *("one two three four five",) * 3) * 10
    return Generations(("p",) * 40, references, tokens, margins, texts, 8)


@pytest.fixture(scope="module")
def evidence() -> Mapping[str, list[Evidence]]:
    """The pieces of evidence of both kinds of models by metric."""
    found: dict[str, list[Evidence]] = {}
    for piece in (*classifier(), *generator()):
        found.setdefault(piece.metric, []).append(piece)
    return found


def judged(rule: dict[str, Any], pieces: list[Evidence]) -> Judgement:
    gates = GatesConfig.model_validate({"rules": [rule]})
    return judge(rules_of(gates, "classifier"), pieces, STATES, baseline="base")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MEASURED)
def test_a_rule_on_every_metric_is_judged_or_refused(
    name: str, kind: Kind, evidence: Mapping[str, list[Evidence]]
) -> None:
    """By each comparison that a metric has, limits far off on either side pass and fail; any other is refused with what to write."""
    rule = {"metric": name, "compare": kind}
    if kind not in METRICS[name].kinds:
        with pytest.raises(ValueError, match=f"rule on {name}: it has no {kind}; write compare = "):
            judged({**rule, "max": 1.0}, [])
        return
    for limit, verdict in ((1e12, "pass"), (-1e12, "fail")):
        gates = judged({**rule, "max": limit}, evidence[name]).gates
        assert gates
        assert {gate.verdict for gate in gates} == {verdict}, gates[0].sentence
        assert {gate.verdict for gate in judged({**rule, "min": -limit}, evidence[name]).gates} == {verdict}


def test_the_registry_and_the_evidence_have_the_same_comparisons(evidence: Mapping[str, list[Evidence]]) -> None:
    """What a rule may ask by the registry is what the evidence answers, of every metric that is measured."""
    assert sorted(evidence) == MEASURED
    for name, pieces in evidence.items():
        assert {frozenset(piece.kinds) for piece in pieces} == {frozenset(METRICS[name].kinds)}, name


@pytest.mark.parametrize("name", [name for name in MEASURED if METRICS[name].of == "classifier"])
def test_quality_is_judged_within_slices_and_times_at_shapes(name: str, evidence: Mapping[str, list[Evidence]]) -> None:
    """A rule of quality with a slice has a verdict a value; a time's rule with a condition that at this shape alone."""
    kind = METRICS[name].kinds[0]
    if METRICS[name].family == "quality":
        rule = {"metric": name, "compare": kind, "max": 1e12, "slice": "language"}
        places = [{"slice": "language=de"}, {"slice": "language=fr"}]
    else:
        condition = {"threads": 1} if name == "sustained_rate" else {"rate": 50}
        rule = {"metric": name, "compare": kind, "max": 1e12, "conditions": condition}
        places = [{"batch_size": 1, "threads": 1, **condition}]
        if name in ("throughput", "latency_end_to_end_p50"):
            rule, places = {**rule, "conditions": {"batch_size": 1}}, [{"batch_size": 1, "threads": 1}]
    gates = judged(rule, evidence[name]).gates
    assert [(gate.conditions, gate.verdict) for gate in gates] == [(place, "pass") for place in places]


def test_first_calls_load_and_build_times_by_hand(evidence: Mapping[str, list[Evidence]]) -> None:
    """Each is the candidate's over the baseline's: loads of 41 to 44 over 81 to 84 ms, builds of 1 s over 4 s, timed once."""
    ratio = {
        name: judged({"metric": name, "max": 1.0}, evidence[name]) for name in ("load_time", "first_call", "build_time")
    }
    logs = [np.log((40 + number) / (80 + number)) for number in range(1, 5)]
    assert ratio["load_time"].comparisons[0].value == pytest.approx(np.exp(np.mean(logs)))
    assert ratio["first_call"].comparisons[0].value == pytest.approx(0.5, rel=0.03)
    assert [gate.conditions for gate in ratio["first_call"].gates] == [
        {"batch_size": 1, "threads": 1}, {"batch_size": 1, "rate": 50, "threads": 1},
    ]  # fmt: skip
    (gate,) = ratio["build_time"].gates
    assert (
        "a: build_time 0.25x [0.25x, 0.25x] of base, limit at most 1x: pass (one build each, timed once)"
        in gate.sentence
    )
    value = judged({"metric": "load_time", "compare": "value", "max": 100.0}, evidence["load_time"])
    assert "holds for this session only" in value.gates[0].sentence


def test_percentiles_ask_for_calls_of_their_own_kind_of_shape() -> None:
    """A 95th percentile needs 130 calls of the model, none of those from raw inputs; the median from end to end the other way."""
    shape = {"batch_size": 1, "threads": 1}
    raw = {**shape, END_TO_END: 1}
    rules = [Rule("latency_p95", "ratio", 1.0, maximum=True)]
    assert [least_calls_for(rules, each) for each in (shape, raw)] == [130, 0]
    rules = [Rule("latency_end_to_end_p50", "ratio", 1.0, maximum=True)]
    assert [least_calls_for(rules, each) for each in (shape, raw)] == [0, least_n(0.5)]


def test_an_existing_artifact_has_no_build_time() -> None:
    """Where a variant was not built, a rule on its build time is not evaluated and says what it needs."""
    manifests = {
        "base": manifest(4000, "classifier"),
        "a": replace(manifest(1000, "classifier"), recipe={"artifact": "f00"}),
    }
    pieces = list(cost_evidence(manifests, events(), [], "base"))
    (gate,) = judged({"metric": "build_time", "max": 1.0}, pieces).gates
    assert gate.verdict == "not_evaluated"
    assert gate.sentence.endswith(
        "this run did not measure it; it needs variants that are built, not existing artifacts"
    )


def test_nothing_has_a_ratio_to_a_size_of_0() -> None:
    """A candidate of 4 bytes against a baseline of none is not evaluated by ratio, and judged by difference."""
    pieces = list(cost_evidence({"base": manifest(0, "classifier"), "a": manifest(4, "classifier")}, [], [], "base"))
    (gate,) = judged({"metric": "artifact_bytes", "max": 1.0}, pieces).gates
    assert (gate.verdict, "compare by value or difference" in gate.sentence) == ("not_evaluated", True)
    assert judged({"metric": "artifact_bytes", "compare": "difference", "max": 4.0}, pieces).exit_code == 0


def test_undecided_costs_of_processes_ask_for_more_replicates(evidence: Mapping[str, list[Evidence]]) -> None:
    """An open rule on load time keeps the weighing going as one on latency does; an open one on accuracy does not."""
    middle = {
        name: judged({"metric": name, "max": 9.0}, evidence[name]).comparisons[0]
        for name in ("load_time", "latency_p50")
    }
    for name, found in middle.items():
        judgement = judged({"metric": name, "max": found.value}, evidence[name])
        assert judgement.gates[0].verdict == "inconclusive"
        assert not judgement.decided


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tpot", "it needs a generator"),
        ("latency_p50", "it needs a classifier"),
        ("bleu", "it needs a generator and a column of references, workload.columns.reference"),
        ("sustained_rate", "it needs a classifier, measure.rates and measure.latency_limit"),
        ("latency_end_to_end_p50", "it needs a classifier with data, a caller alone, and measure.end_to_end = true"),
        ("accuracy", "it needs a classifier and labelled evaluation data"),
        ("agreement", "it needs a classifier"),
        ("cache_bytes", "it needs a generator"),
        ("artifact_bytes", ""),
    ],
)
def test_a_metric_of_other_runs_says_what_it_needs(name: str, words: str) -> None:
    """A rule that nothing was measured for is not evaluated, and its sentence says what would measure it."""
    (gate,) = judged({"metric": name, "compare": "value", "max": 1.0}, []).gates
    assert gate.verdict == "not_evaluated"
    assert gate.sentence.endswith("did not measure it" + (f"; {words}" if words else ""))
    assert needs_of(name) == words


def test_a_rule_that_names_the_baseline_says_what_it_is() -> None:
    """The baseline is not judged against itself: not evaluated, with the advice to name a candidate."""
    rule = Rule("artifact_bytes", "value", 1.0, maximum=True, variants=("base",))
    (gate,) = judge([rule], [], STATES, baseline="base").gates
    assert gate.verdict == "not_evaluated"
    assert "base is the baseline, against which the candidates are judged; name one of them" in gate.sentence
