"""Print the tables of docs/quality.md: how often a quality rule is judged wrongly with the truth at its limit.

Run: python bench/scripts/quality_rates.py [--trials 2000] [--bootstrap-trials 300]     (about a quarter of an hour on one core)

A large population of labelled examples is made with two models' scores; the limit of the rule is the population's own difference
of the metric. Samples are drawn from it, and a verdict on either side is wrong. Beside the bounds in use stands the plain
percentile bootstrap over examples.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special
from weighbridge.bench.metrics import METRICS
from weighbridge.bench.quality import BINS, LEAST_PROBABILITY, estimates
from weighbridge.bench.quality_evidence import PairedQuality

Floats = NDArray[np.float64]
Classes = NDArray[np.int64]

SHOWN = (
    "f1_macro",
    "balanced_accuracy",
    "precision_macro",
    "log_loss",
    "roc_auc",
    "brier",
    "expected_calibration_error",
)
SIZES = (100, 300, 1000, 3000)
BOOTSTRAP_SIZES = (100, 300, 1000)
ERRORS = (0.01, 0.001)
"""One-sided errors promised for each side."""
EXAMPLES = 200_000
RESAMPLES = 2000
SPREAD, SEPARATION = 1.3, 3.2
SHARES = {"balanced": (0.25, 0.25, 0.25, 0.25), "unbalanced": (0.7, 0.2, 0.07, 0.03)}


@dataclass(frozen=True)
class Population:
    """Labels (examples,) and the scores of baseline and candidate (examples, classes), as probabilities."""

    name: str
    labels: Classes
    baseline: NDArray[np.float32]
    candidate: NDArray[np.float32]

    def take(self, rows: Classes) -> "Population":
        """The examples at these rows."""
        return Population(self.name, self.labels[rows], self.baseline[rows], self.candidate[rows])


def populations() -> Iterator[Population]:
    """Equal and unequal classes with 1 % and 5 % of the answers changed; rare classes alone; a baseline that is calibrated."""
    for classes, shares in SHARES.items():
        for changed in (0.01, 0.05):
            yield _population(f"{classes}, {changed:.0%} changed", shares, (changed,) * 4)
    yield _population("unbalanced, rare classes changed", SHARES["unbalanced"], (0.0, 0.0, 0.05, 0.2))
    yield _population("balanced, 5% changed, calibrated", SHARES["balanced"], (0.05,) * 4, SEPARATION / SPREAD**2)


def _population(name: str, shares: Sequence[float], changed: Sequence[float], sharpness: float = 1.0) -> Population:
    """A model of about 90 % accuracy; the candidate's logits are near its own, with the two best swapped where changed.

    Its logits are `sharpness` times the separation of the classes: with separation / spread**2 they are log likelihoods.
    """
    random = np.random.default_rng(1)
    labels = random.choice(len(shares), EXAMPLES, p=shares)
    logits = SPREAD * random.standard_normal((EXAMPLES, len(shares)))
    logits[np.arange(EXAMPLES), labels] += SEPARATION
    other = logits + 0.05 * random.standard_normal(logits.shape)
    rows = np.flatnonzero(random.random(EXAMPLES) < np.array(changed)[labels])
    order = other[rows].argsort(axis=1)
    best, second = order[:, -1], order[:, -2]
    other[rows, best], other[rows, second] = other[rows, second], other[rows, best]
    probabilities = (special.softmax(sharpness * each, axis=1).astype(np.float32) for each in (logits, other))
    return Population(name, labels, *probabilities)


def evidence(sample: Population) -> dict[str, PairedQuality]:
    """The product's evidence of every metric on a sample."""
    found = [estimates(sample.labels, each.argmax(axis=1), each) for each in (sample.baseline, sample.candidate)]
    return {name: PairedQuality("candidate", name, {}, found[0][name], found[1][name]) for name in SHOWN}


@dataclass
class Rates:
    """Wrong passes and wrong fails by metric and error, counted over trials."""

    passes: dict[tuple[str, float], int]
    fails: dict[tuple[str, float], int]
    trials: int = 0

    @staticmethod
    def none() -> "Rates":
        """Nothing counted yet."""
        keys = [(name, error) for name in SHOWN for error in ERRORS]
        return Rates(dict.fromkeys(keys, 0), dict.fromkeys(keys, 0))

    def count(self, name: str, error: float, bounds: tuple[float, float], truth: float) -> None:
        """Count what an interval says of a rule whose limit is the truth."""
        above, below = bounds[0] > truth, bounds[1] < truth
        higher = METRICS[name].direction == "higher"
        self.passes[name, error] += above if higher else below
        self.fails[name, error] += below if higher else above


def in_use(population: Population, truths: dict[str, float], n: int, trials: int) -> Rates:
    """The rates of the product's bounds."""
    random, rates = np.random.default_rng(n), Rates.none()
    for _ in range(trials):
        found = evidence(population.take(random.integers(0, EXAMPLES, n)))
        rates.trials += 1
        for name, piece in found.items():
            for error in ERRORS:
                interval = piece.interval("difference", error, error)
                if interval is not None:
                    rates.count(name, error, (interval.low, interval.high), truths[name])
    return rates


def percentile_bootstrap(population: Population, truths: dict[str, float], n: int, trials: int) -> Rates:
    """The rates of the quantiles of resampled differences."""
    random, rates = np.random.default_rng(n), Rates.none()
    for _ in range(trials):
        sample = population.take(random.integers(0, EXAMPLES, n))
        weights = random.multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(np.float64)
        ours, theirs = (
            resampled(sample.labels, each.astype(np.float64), weights) for each in (sample.candidate, sample.baseline)
        )
        rates.trials += 1
        for name in SHOWN:
            difference = ours[name] - theirs[name]
            for error in ERRORS:
                bounds = np.quantile(difference, [error, 1 - error])
                rates.count(name, error, (float(bounds[0]), float(bounds[1])), truths[name])
    return rates


def resampled(labels: Classes, table: Floats, weights: Floats) -> dict[str, Floats]:
    """Each metric of weighted examples, shape (resamples,), from weights (resamples, examples)."""
    classes, rows, predicted = table.shape[1], np.arange(len(labels)), table.argmax(axis=1)
    is_label, is_predicted = (np.eye(classes)[each] for each in (labels, predicted))
    support, predictions, hits = weights @ is_label, weights @ is_predicted, weights @ (is_label * is_predicted)
    occurs = support > 0
    count = occurs.sum(axis=1)
    confidence = table[rows, predicted]
    bins = np.eye(BINS)[np.minimum((confidence * BINS).astype(int), BINS - 1)]
    gaps = weights @ (bins * (confidence - (predicted == labels))[:, None])
    n = weights.sum(axis=1)
    loss = -np.log(np.clip(table[rows, labels], LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))
    return {
        "f1_macro": (2 * hits / np.where(occurs, support + predictions, 1)).sum(axis=1, where=occurs) / count,
        "balanced_accuracy": (hits / np.where(occurs, support, 1)).sum(axis=1) / count,
        "precision_macro": (hits / np.maximum(predictions, 1)).sum(axis=1, where=occurs) / count,
        "log_loss": weights @ loss / n,
        "brier": weights @ np.square(table - is_label).sum(axis=1) / n,
        "expected_calibration_error": np.abs(gaps).sum(axis=1) / n,
        "roc_auc": np.nanmean([_weighted_auc(is_label[:, c], table[:, c], weights) for c in range(classes)], axis=0),
    }


def _weighted_auc(inside: Floats, given: Floats, weights: Floats) -> Floats:
    """The area of one class for each row of weights; NaN where the class or its rest is absent. Scores have no ties."""
    order = given.argsort()
    ordered, positive = weights[:, order], inside[order]
    below = np.cumsum(ordered * (1 - positive), axis=1)
    pairs = ordered @ positive * (ordered @ (1 - positive))
    return np.where(pairs > 0, (below * ordered) @ positive / np.where(pairs > 0, pairs, 1), np.nan)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--bootstrap-trials", type=int, default=300)
    options = parser.parse_args()
    made = list(populations())
    truths = [
        {name: piece.candidate.value - piece.baseline.value for name, piece in evidence(each).items()} for each in made
    ]
    ours = {
        (each.name, n): in_use(each, truth, n, options.trials)
        for each, truth in zip(made, truths, strict=True)
        for n in SIZES
    }
    theirs = {
        (each.name, n): percentile_bootstrap(each, truth, n, options.bootstrap_trials)
        for each, truth in zip(made, truths, strict=True)
        for n in BOOTSTRAP_SIZES
    }
    names = [each.name for each in made]
    print(
        f"Wrong verdicts in % of {options.trials} trials, the worst of {len(names)} populations: {'; '.join(names)}.\n"
    )
    _print_worst("in use", ours, names, SIZES)
    print(f"\nThe percentile bootstrap ({RESAMPLES} resamples, {options.bootstrap_trials} trials):\n")
    _print_worst("percentile", theirs, names, BOOTSTRAP_SIZES)


def _print_worst(title: str, found: dict[tuple[str, int], Rates], names: Sequence[str], sizes: Sequence[int]) -> None:
    """One row a metric and error: passes and fails at each n, each the highest rate of the populations."""
    print(f"| {title}: metric | promised | {' | '.join(f'pass n={n} | fail n={n}' for n in sizes)} |")
    print(f"|---|---|{'---|' * (2 * len(sizes))}")
    for name in SHOWN:
        for error in ERRORS:
            cells = []
            for n in sizes:
                of_n = [found[population, n] for population in names]
                cells.append(max(each.passes[name, error] / each.trials for each in of_n))
                cells.append(max(each.fails[name, error] / each.trials for each in of_n))
            print(f"| {name} | {100 * error:g} | {' | '.join(f'{100 * cell:.2f}' for cell in cells)} |")


if __name__ == "__main__":
    main()
