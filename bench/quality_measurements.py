"""Quality in absolute values with their intervals, n and standard errors, and the recall of every class."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .evidence import LEAST_WINDOWS, ratio_of_sums
from .generated import Generations
from .generation_evidence import comparable
from .generation_quality import of_divergences
from .metrics import METRICS, Conditions
from .predictions import ClassPredictions, WindowScores
from .quality import Estimate
from .quality_evidence import PairedClass, WorstClassRecall, paired_classes, root_bounds, within_reach
from .results import ClassRecall, Measurement
from .stats import bounded_exp, proportion_interval, t_quantile

_CONFIDENCE = 0.95
_TAIL = (1 - _CONFIDENCE) / 2


def quality_measurements(
    classes: Mapping[str, ClassPredictions], baseline: str, class_names: Sequence[str] = ()
) -> Iterator[Measurement]:
    """Every quality metric of every variant on all examples; accuracy and agreement within every slice too."""
    reference = classes.get(baseline)
    for variant, answers in classes.items():
        against = None if variant == baseline else reference
        yield from _shares(variant, answers, against, {})
        if answers.labelled:
            yield _worst(variant, paired_classes(answers, answers, class_names))
            yield from (_of_classes(variant, name, answers.quality) for name in answers.quality)
        for name, inside in answers.sliced.items():
            yield from _shares(variant, inside, against.sliced[name] if against else None, {"slice": name})


def generation_measurements(
    windows: Mapping[str, WindowScores], generations: Mapping[str, Generations], baseline: str
) -> Iterator[Measurement]:
    """Every quality metric of every generator, on the windows of text and on the answers to the prompts."""
    for variant, scores in windows.items():
        yield from _likelihoods(variant, scores)
        found = of_divergences(scores.divergences or ())
        if found is not None:
            yield _estimated(variant, "kl_divergence", found)
    reference = generations.get(baseline)
    for variant, answers in generations.items():
        if variant != baseline and reference is not None:
            found_pairs = comparable(reference, answers)
            yield from (_estimated(variant, name, estimate) for name, estimate in found_pairs.items())
        if answers.exact is not None:
            yield _proportion(variant, "exact_match", {}, answers.exact)
        yield from (_estimated(variant, name, estimate) for name, estimate in answers.quality.items())


def _shares(
    variant: str, answers: ClassPredictions, reference: ClassPredictions | None, conditions: Conditions
) -> Iterator[Measurement]:
    """Accuracy and, against the baseline, agreement, with Clopper and Pearson's interval."""
    if answers.labelled:
        yield _proportion(variant, "accuracy", conditions, answers.correct)
    if reference is not None:
        yield _proportion(variant, "agreement", conditions, answers.predicted == reference.predicted)


def _proportion(variant: str, name: str, conditions: Conditions, hits: NDArray[np.bool_]) -> Measurement:
    count, n = int(hits.sum()), len(hits)
    share = count / n
    low, high = proportion_interval(count, n, _CONFIDENCE)
    error = float(np.sqrt(share * (1 - share) / n))
    return Measurement(variant, name, METRICS[name].unit, conditions, share, low, high, n, error)


def _worst(variant: str, classes: tuple[PairedClass, ...]) -> Measurement:
    """The lowest recall, with the class that has it."""
    name = "worst_class_recall"
    found = WorstClassRecall(variant, name, {}, classes)
    worst, value = found.worst, found.worst.candidate / found.worst.n
    low, high = found.value_bounds(_TAIL, _TAIL)
    error = float(np.sqrt(value * (1 - value) / worst.n))
    note = f"class {worst.name}, n = {worst.n}"
    return Measurement(variant, name, METRICS[name].unit, {}, value, low, high, worst.n, error, note)


def _of_classes(variant: str, name: str, quality: Mapping[str, Estimate]) -> Measurement:
    """A metric of classes or probabilities; the root of the mse has the mse's bounds."""
    found = _estimated(variant, name, quality[name])
    if name != "rmse":
        return found
    low, high = root_bounds(quality["mse"], _TAIL, _TAIL)
    return replace(found, low=low, high=high)


def _estimated(variant: str, name: str, estimate: Estimate) -> Measurement:
    mean, n = estimate.mean, len(estimate.influence)
    low, high = within_reach(name, "value", mean.low(_TAIL), mean.high(_TAIL))
    return Measurement(variant, name, METRICS[name].unit, {}, estimate.value, low, high, n, estimate.standard_error)


def _likelihoods(variant: str, scores: WindowScores) -> Iterator[Measurement]:
    """Perplexity and, where the bytes are known, bits a byte, with the standard error over windows; two of them at least."""
    n = len(scores.nll)
    if n < LEAST_WINDOWS:
        return
    quantile = -t_quantile(_TAIL, n - 1)
    mean, error = ratio_of_sums(scores.nll, scores.tokens)
    value, low, high = (bounded_exp(each) for each in (mean, mean - quantile * error, mean + quantile * error))
    yield Measurement(variant, "perplexity", METRICS["perplexity"].unit, {}, value, low, high, n, value * error)
    if scores.bytes is not None:
        bits, error = ratio_of_sums(scores.nll / math.log(2), scores.bytes)
        low, high = bits - quantile * error, bits + quantile * error
        yield Measurement(variant, "bits_per_byte", METRICS["bits_per_byte"].unit, {}, bits, low, high, n, error)


def class_recalls(
    classes: Mapping[str, ClassPredictions], baseline: str, class_names: Sequence[str] = ()
) -> Iterator[ClassRecall]:
    """The recall of every class for every candidate against the baseline.

    The intervals of a candidate hold together at 95 %: each class has its share of the error (Bonferroni), so that the class
    that lost most may be picked out.
    """
    reference = classes.get(baseline)
    for variant, answers in classes.items():
        if variant == baseline or reference is None or not answers.labelled:
            continue
        found = paired_classes(reference, answers, class_names)
        for each in found:
            ours, theirs = each.candidate / each.n, each.baseline / each.n
            bounds = each.difference(_TAIL / len(found), _TAIL / len(found))
            yield ClassRecall(variant, each.name, each.n, theirs, ours, ours - theirs, *bounds)
