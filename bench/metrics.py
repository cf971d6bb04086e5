"""The one registry of metrics: name, unit, direction, formula. The docs table is generated from it.

A new gateable metric is one entry here; what measures it gives its samples under the same name.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..optimize.errors import ConfigError, one_of

Direction = Literal["lower", "higher"]
Family = Literal["speed", "generation", "quality", "cost"]
Kind = Literal["value", "ratio", "difference"]
ModelKind = Literal["classifier", "decoder"]
Conditions = Mapping[str, int | float | str]

SHAPE_KEYS = (
    "batch_size",
    "sequence_length",
    "prompt_length",
    "max_new_tokens",
    "past_length",
    "concurrency",
    "rate",
    "threads",
    "slice",
)
"""Every key that a flat `conditions` map may hold."""
END_TO_END = "end_to_end"
"""The phase of calls that start from raw inputs; within a run they are weighed as a shape of their own, which has this key too."""
KINDS: tuple[Kind, ...] = ("value", "ratio", "difference")
"""All ways to compare."""

_MEDIAN = 50
_PARTS = 4
_GAPS_A_PART = 4

Calls = NDArray[np.float64]
"""Milliseconds of timed calls, shape (calls, parts): one part a call; for a generator one part an output token."""


@dataclass(frozen=True)
class Metric:
    """A measured quantity.

    Attributes:
        name: its one name, in configs, files and reports.
        unit: its one unit.
        direction: whether lower or higher is better.
        formula: how it is computed from raw samples, predictions or files.
        family: speed (calls of a classifier), generation (calls of a generator), quality (predictions) or cost.
        of_calls: for speed and generation, the value of the timed calls of one shape; None where they do not give one.
        percentile: for a percentile, which; below its least number of samples it is not a number.
        by_round: a median, whose ratio is taken round by round, so that what changes from round to round cancels.
        raw: made of calls that start from raw inputs (texts, pixels), not of the model's own.
        kinds: how it can be compared, and so what a rule may ask; what is itself a comparison has a value only.
        of: the kind of model that alone has it; None where every kind has.
    """

    name: str
    unit: str
    direction: Direction
    formula: str
    family: Family
    of_calls: Callable[[Calls, Conditions], float | None] | None = None
    percentile: float | None = None
    by_round: bool = False
    raw: bool = False
    kinds: tuple[Kind, ...] = KINDS
    of: ModelKind | None = None


def _percentile(name: str, percentile: float, formula: str) -> Metric:
    def of_calls(calls: Calls, conditions: Conditions) -> float:
        del conditions
        return float(np.percentile(calls.sum(axis=1), percentile))

    return Metric(
        name, "ms", "lower", formula, "speed", of_calls, percentile, by_round=percentile == _MEDIAN, of="classifier"
    )


def _generation(
    name: str,
    formula: str,
    of_calls: Callable[[Calls, Conditions], float | None],
    unit: str = "ms",
    direction: Direction = "lower",
) -> Metric:
    return Metric(name, unit, direction, formula, "generation", of_calls, by_round=unit == "ms", of="decoder")


def _quality(name: str, formula: str, direction: Direction = "higher", kinds: tuple[Kind, ...] = KINDS) -> Metric:
    return Metric(name, "1", direction, formula, "quality", kinds=kinds, of="classifier")


def _text(name: str, formula: str, direction: Direction = "higher", kinds: tuple[Kind, ...] = KINDS) -> Metric:
    return replace(_quality(name, formula, direction, kinds), of="decoder")


def _mean_seconds(calls: Calls) -> float:
    return float(calls.sum(axis=1).mean()) / 1e3


def _batch(conditions: Conditions) -> int:
    return int(conditions["batch_size"])


def _throughput(calls: Calls, conditions: Conditions) -> float | None:
    """Samples/s of callers that are never idle (Little's law); at a given rate, what arrives is what is served."""
    if "rate" in conditions:
        return None
    return _batch(conditions) * int(conditions.get("concurrency", 1)) / _mean_seconds(calls)


def past_parts(conditions: Conditions) -> dict[int, slice]:
    """Up to four equal parts of a request's inter-token gaps, by the past length in the middle of each; none of a short request.

    The gap before output token k is a step on a cache of prompt_length + k - 2 positions.
    """
    gaps = int(conditions["max_new_tokens"]) - 1
    parts = min(_PARTS, gaps // _GAPS_A_PART)
    if parts < 2:  # noqa: PLR2004 - one part is the whole
        return {}
    edges = [gaps * part // parts for part in range(parts + 1)]
    prompt = int(conditions["prompt_length"])
    return {prompt + (start + stop) // 2: slice(start, stop) for start, stop in itertools.pairwise(edges)}


def _tpot(calls: Calls, conditions: Conditions) -> float | None:
    gaps = calls[:, 1:]
    if "past_length" in conditions:
        gaps = gaps[:, past_parts(conditions)[int(conditions["past_length"])]]
    return float(np.median(gaps.mean(axis=1))) if gaps.size else None


def _itl(calls: Calls, conditions: Conditions) -> float | None:
    del conditions
    return float(np.median(calls[:, 1:])) if calls.shape[1] > 1 else None


_ALL = (
    Metric(
        "latency_mean",
        "ms",
        "lower",
        "mean of the timed calls of the model (tensors in, tensors out)",
        "speed",
        lambda calls, _: float(calls.sum(axis=1).mean()),
        of="classifier",
    ),
    _percentile("latency_p50", 50, "median of the timed calls"),
    _percentile("latency_p90", 90, "90th percentile of the timed calls; needs n >= 64"),
    _percentile("latency_p95", 95, "95th percentile of the timed calls; needs n >= 130"),
    _percentile("latency_p99", 99, "99th percentile of the timed calls; needs n >= 662"),
    replace(
        _percentile(
            "latency_end_to_end_p50",
            50,
            "median of timed calls that start from raw inputs: tokenization or preprocessing, loading, the model; needs "
            "measure.end_to_end or a rule on it",
        ),
        raw=True,
    ),
    Metric(
        "throughput",
        "samples/s",
        "higher",
        "batch_size x concurrency / latency_mean, callers never idle; at batch_size best: the highest of the batch sizes",
        "speed",
        _throughput,
        of="classifier",
    ),
    Metric(
        "sustained_rate",
        "requests/s",
        "higher",
        "highest of measure.rates up to which the percentile of measure.latency_limit is within it and the rate below what "
        "one server can serve; 0 where the lowest is not",
        "speed",
        of="classifier",
    ),
    Metric("load_time", "ms", "lower", "opening the artifact in a fresh process; median over processes", "cost"),
    Metric("first_call", "ms", "lower", "the first call after opening; median over processes", "cost"),
    Metric(
        "build_time", "s", "lower", "wall time of the build, when it was built; an existing artifact has none", "cost"
    ),
    _generation(
        "ttft",
        "time to first token: request start to the first output token; median over requests",
        lambda calls, _: float(np.median(calls[:, 0])),
    ),
    _generation(
        "tpot",
        "time per output token: (E2E - TTFT) / (n_out - 1) a request; median; needs n_out >= 2; at a past_length: of the "
        "part of the tokens (a quarter, of 17 or more) around that length of the cache",
        _tpot,
    ),
    _generation("itl", "inter-token latency: every gap between output tokens, pooled; median; needs n_out >= 2", _itl),
    _generation(
        "e2e_latency",
        "request start to last output token; median over requests",
        lambda calls, _: float(np.median(calls.sum(axis=1))),
    ),
    _generation(
        "output_tokens_per_second",
        "batch_size x n_out / mean E2E latency",
        lambda calls, conditions: _batch(conditions) * calls.shape[1] / _mean_seconds(calls),
        "tokens/s",
        "higher",
    ),
    _generation(
        "prefill_tokens_per_second",
        "batch_size x prompt_length / mean TTFT",
        lambda calls, conditions: _batch(conditions) * int(conditions["prompt_length"]) / (calls[:, 0].mean() / 1e3),
        "tokens/s",
        "higher",
    ),
    _generation(
        "requests_per_second",
        "batch_size / mean E2E latency",
        lambda calls, conditions: _batch(conditions) / _mean_seconds(calls),
        "requests/s",
        "higher",
    ),
    _text(
        "perplexity",
        "exp of the mean negative log-likelihood per scored token, over all windows",
        "lower",
        kinds=("value", "ratio"),
    ),
    _text(
        "bits_per_byte",
        "negative log2-likelihood of all scored tokens / UTF-8 bytes of the text they stand for",
        "lower",
    ),
    _text(
        "token_agreement",
        "share of an answer's positions with the baseline's token, those after the first divergence too; mean over prompts",
        kinds=("value",),
    ),
    _text(
        "first_divergence",
        "index of the first token that differs from the baseline's, max_new_tokens where none does; mean over prompts",
        kinds=("value",),
    ),
    _text(
        "kl_divergence",
        "KL(baseline || candidate) of the next token, nats, given the same text before it; mean over places of the scored windows",
        "lower",
        kinds=("value",),
    ),
    _text("bleu", "corpus BLEU against the references, 0 to 100 (sacrebleu's defaults)"),
    _text("rouge1", "ROUGE-1 F-measure against the reference, without stemming; mean over prompts"),
    _text("rouge2", "ROUGE-2 F-measure against the reference, without stemming; mean over prompts"),
    _text("rougeL", "ROUGE-L F-measure against the reference, without stemming; mean over prompts"),
    _text("exact_match", "share of answers equal to the reference, white space at both ends left out"),
    _text("repetition", "share of an answer's 4-grams of tokens that it has already used; mean over prompts", "lower"),
    _text("distinct_1", "different tokens / tokens of an answer; mean over prompts"),
    _text("distinct_2", "different pairs of tokens / pairs of an answer; mean over prompts"),
    _quality("accuracy", "share of examples whose highest score is the label's"),
    _quality("balanced_accuracy", "mean of the recalls of the classes that occur among the labels"),
    _quality(
        "precision_macro",
        "mean of the precisions of the classes that occur among the labels; 0 for one that is never predicted",
    ),
    _quality("recall_macro", "mean of the recalls of the classes that occur among the labels"),
    _quality("f1_macro", "mean of the F1 scores of the classes that occur among the labels"),
    _quality("f1_weighted", "mean of the F1 scores of the classes, weighted by their support"),
    _quality(
        "roc_auc",
        "area under the ROC curve: of class 1 for two classes, else the mean of one against the rest over the classes that "
        "occur among the labels",
    ),
    _quality("log_loss", "mean negative log of the label's probability, nats", "lower"),
    _quality(
        "brier",
        "mean squared distance of the probabilities from the label's indicator; half of it for two classes",
        "lower",
    ),
    _quality(
        "expected_calibration_error",
        "absolute difference of mean confidence and accuracy, averaged by examples over 15 equal-width bins of the highest probability",
        "lower",
    ),
    _quality(
        "mse",
        "mean over examples and classes of the squared distance of the probability from the label's indicator",
        "lower",
    ),
    _quality("rmse", "root of the mse", "lower"),
    _quality(
        "worst_class_recall", "lowest recall of any class that occurs among the labels", kinds=("value", "difference")
    ),
    _quality("agreement", "share of examples with the baseline's prediction", kinds=("value",)),
    Metric("artifact_bytes", "bytes", "lower", "bytes of the artifact's files", "cost"),
    Metric("parameters", "1", "lower", "numbers among the artifact's weights", "cost"),
    Metric(
        "cache_bytes",
        "bytes",
        "lower",
        "2 x layers x key/value heads x head size x bytes of a number x batch_size x (prompt_length + n_out - 1)",
        "cost",
        of="decoder",
    ),
    Metric(
        "peak_memory", "bytes", "lower", "peak resident memory of the worker process; median over processes", "cost"
    ),
)

METRICS: dict[str, Metric] = {each.name: each for each in _ALL}

SHARES = frozenset(
    {
        "accuracy",
        "agreement",
        "balanced_accuracy",
        "distinct_1",
        "distinct_2",
        "exact_match",
        "expected_calibration_error",
        "f1_macro",
        "f1_weighted",
        "precision_macro",
        "recall_macro",
        "repetition",
        "token_agreement",
        "worst_class_recall",
    }
)
"""Metrics that are shares between 0 and 1: shown in percent, their differences in points."""
OF_PROCESSES = frozenset({"load_time", "first_call", "peak_memory"})
"""Costs that every fresh process tells anew, so that more replicates tell more of them."""


def metric(name: str) -> Metric:
    """Return the metric of that name.

    Raises:
        ConfigError: there is none; the text names the nearest.
    """
    if name not in METRICS:
        raise ConfigError(one_of("metric", name, METRICS))
    return METRICS[name]
