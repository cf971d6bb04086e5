"""Print the table of docs/weighing.md: how often each procedure is wrong, and how soon it decides, under known noise.

Run: python bench/scripts/error_rates.py [--trials 4000]     (about three minutes on one core)
     python bench/scripts/error_rates.py --shares            (the table of bench/looks.py)

Simulated is what a session sees: a replicate is a fresh process for baseline, twin and candidate, each with an instance
effect of 0.5 % that stays as long as the process lives; a round visits each once, in time order, under the noise of the
machine. The truth is known; a verdict that contradicts it is wrong.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special
from weighbridge.bench.looks import ERRORS, LOOKS, per_look_error

Array = NDArray[np.float64]

LIMIT = 1.03
TRUTHS = {"at the limit": 1.03, "inside": 1.01, "outside": 1.05}
ERROR = 0.01
"""One-sided error promised for each side."""
INSTANCE_SD = 0.005
CALL_MS = 1.5
CALLS_A_VISIT = 13
PROCESSES = 3
START_SECONDS = 0.7
"""Starting the processes of a replicate: time that passes, but is not sampled."""
MOST_REPLICATES = LOOKS[-1]
_BASELINE, _CANDIDATE, _TWIN = 0, 1, 2
_SLOW_SHARE = 0.1 / (0.1 + 1 / 3)
"""Of the visits, in the bimodal noise: entered in one of ten, left in one of three."""


# --- the noise of the machine: log time of each visit, shape (trials, replicates, rounds, processes) ---


def independent(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Every visit on its own: sd 1 %."""
    return 0.01 * random.standard_normal(shape)


def autocorrelated(rho: float) -> Callable[[np.random.Generator, tuple[int, ...]], Array]:
    """Each process its own first-order autoregression over rounds, stationary sd 1 %."""

    def noise(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
        series = random.standard_normal(shape)
        for index in range(1, shape[2]):
            series[:, :, index] = rho * series[:, :, index - 1] + math.sqrt(1 - rho * rho) * series[:, :, index]
        return 0.01 * series

    return noise


def drifting(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """The whole machine wanders, 1 % a round and a trend of 5 % a replicate; visits of a round see it at their own time."""
    trials, replicates, rounds, processes = shape
    steps = 0.01 / math.sqrt(processes) * random.standard_normal((trials, replicates, rounds * processes))
    trend = 0.05 * random.standard_normal((trials, replicates, 1)) * np.linspace(0, 1, rounds * processes)
    return _in_random_order(random, steps.cumsum(axis=2) + trend, shape) + independent(random, shape) / 2


def heavy_tailed(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Student's t with two degrees of freedom: no variance at all."""
    return 0.005 * random.standard_t(2, shape)


def bimodal(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A slow state (+20 %) that is entered in one visit of ten and lasts for three on average."""
    trials, replicates, rounds, processes = shape
    slow = np.zeros((trials, replicates, rounds * processes))
    state = random.random((trials, replicates)) < _SLOW_SHARE
    for index in range(rounds * processes):
        chance = np.where(state, 2 / 3, 0.1)
        state = random.random((trials, replicates)) < chance
        slow[:, :, index] = state
    return math.log(1.2) * _in_random_order(random, slow, shape) + independent(random, shape) / 2


def periodic(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A wave of 5 % with a period of seven visits and a phase of its own in every replicate."""
    trials, replicates, rounds, processes = shape
    phase = 2 * math.pi * random.random((trials, replicates, 1))
    wave = 0.05 * np.sin(2 * math.pi * np.arange(rounds * processes) / 7 + phase)
    return _in_random_order(random, wave, shape) + independent(random, shape) / 2


def _in_random_order(random: np.random.Generator, timeline: Array, shape: tuple[int, ...]) -> Array:
    """Deal the visits of each round to the processes in fresh random order."""
    visits = timeline.reshape(shape)
    order = random.random(shape).argsort(axis=3)
    return np.take_along_axis(visits, order, axis=3)


NOISE: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "independent": independent,
    "autocorrelated 0.5": autocorrelated(0.5),
    "autocorrelated 0.8": autocorrelated(0.8),
    "drifting": drifting,
    "heavy-tailed": heavy_tailed,
    "bimodal": bimodal,
    "periodic": periodic,
}


def simulate(name: str, truth: float, rounds: int, trials: int, *, replicates: int, seed: int = 7) -> Array:
    """Log times, shape (trials, replicates, rounds, processes), of a candidate `truth` times as slow as the baseline."""
    random = np.random.default_rng([seed, rounds, sorted(NOISE).index(name)])
    shape = (trials, replicates, rounds, PROCESSES)
    instance = INSTANCE_SD * random.standard_normal((trials, replicates, 1, PROCESSES))
    times = NOISE[name](random, shape) + instance
    times[..., _CANDIDATE] += math.log(truth)
    return times


# --- procedures: verdict of each trial (1 pass, -1 fail, 0 undecided) and the sampling seconds it took ---


@dataclass(frozen=True)
class Outcome:
    """Verdicts and sampling seconds, shape (trials,) each; `replicates` started, for the wall time."""

    verdicts: NDArray[np.int8]
    sampling: Array
    replicates: Array

    @property
    def wall(self) -> Array:
        """Sampling and starting processes."""
        return self.sampling + START_SECONDS * self.replicates


@dataclass(frozen=True)
class Procedure:
    """A way to come to a verdict from log times of so many rounds a replicate."""

    name: str
    rounds: int
    decide: Callable[[Array], Outcome]


def _sampling(rounds: Array | int, replicates: Array | int) -> Array:
    seconds: Array = np.asarray(rounds) * np.asarray(replicates) * CALLS_A_VISIT * PROCESSES * CALL_MS / 1e3
    return seconds


def _sequential(values: Array, looks: Sequence[int], error_a_look: float) -> tuple[NDArray[np.int8], Array]:
    """Look at nested samples, shape (trials, n), until the t interval excludes the limit: verdicts and samples taken."""
    verdicts = np.zeros(len(values), np.int8)
    taken = np.full(len(values), float(looks[-1]))
    for look in looks:
        now = _side(values[:, :look], error_a_look)
        fresh = (verdicts == 0) & (now != 0)
        verdicts[fresh], taken[fresh] = now[fresh], look
    return verdicts, taken


def _side(values: Array, error: float) -> NDArray[np.int8]:
    """1 where the t bound of the mean lies below the limit, -1 where above; shape (trials, n) -> (trials,)."""
    n = values.shape[1]
    half = -special.stdtrit(n - 1, error) * values.std(axis=1, ddof=1) / math.sqrt(n)
    mean = values.mean(axis=1) - math.log(LIMIT)
    return np.where(mean + half <= 0, 1, np.where(mean - half > 0, -1, 0)).astype(np.int8)


def replicate_t(
    looks: Sequence[int], error_a_look: float, references: Sequence[int] = (_BASELINE, _TWIN)
) -> Callable[[Array], Outcome]:
    """Student's t over replicates of fresh processes, each the median of the log ratio of two visits.

    It is taken over the rounds and the references.
    """

    def decide(times: Array) -> Outcome:
        pairs = np.concatenate([times[..., _CANDIDATE] - times[..., each] for each in references], axis=2)
        verdicts, taken = _sequential(np.median(pairs, axis=2), looks, error_a_look)
        return Outcome(verdicts, _sampling(times.shape[2], taken), taken)

    return decide


def replicate_medians_t(looks: Sequence[int], error_a_look: float) -> Callable[[Array], Outcome]:
    """The same with the log ratio of the two medians over all rounds of a replicate."""

    def decide(times: Array) -> Outcome:
        medians = np.median(times, axis=2)
        verdicts, taken = _sequential(medians[..., _CANDIDATE] - medians[..., _BASELINE], looks, error_a_look)
        return Outcome(verdicts, _sampling(times.shape[2], taken), taken)

    return decide


def replicate_mean_t(looks: Sequence[int], error_a_look: float) -> Callable[[Array], Outcome]:
    """The same with the ratio of the means over the rounds: what `latency_mean` and `throughput` are judged by."""

    def decide(times: Array) -> Outcome:
        means = np.log(np.exp(times).mean(axis=2))
        reference = (means[..., _BASELINE] + means[..., _TWIN]) / 2
        verdicts, taken = _sequential(means[..., _CANDIDATE] - reference, looks, error_a_look)
        return Outcome(verdicts, _sampling(times.shape[2], taken), taken)

    return decide


def rounds_t(looks: Sequence[int]) -> Callable[[Array], Outcome]:
    """A sequential t interval over the rounds of one set of processes, as if rounds were independent."""

    def decide(times: Array) -> Outcome:
        ratios = times[:, :, :, _CANDIDATE] - times[:, :, :, _BASELINE]
        verdicts, taken = _sequential(ratios[:, 0], looks, ERROR / len(looks))
        return Outcome(verdicts, _sampling(taken, 1), np.ones(len(times)))

    return decide


def rounds_bootstrap(times: Array) -> Outcome:
    """A percentile bootstrap of the median over the rounds of one set of processes."""
    random = np.random.default_rng(3)
    ratios = times[:, 0, :, _CANDIDATE] - times[:, 0, :, _BASELINE]
    picks = random.integers(0, ratios.shape[1], (1000, ratios.shape[1]))
    medians = np.stack([np.median(row[picks], axis=1) for row in ratios])
    low, high = np.quantile(medians, [ERROR, 1 - ERROR], axis=1)
    limit = math.log(LIMIT)
    verdicts = np.where(high <= limit, 1, np.where(low > limit, -1, 0)).astype(np.int8)
    return _of_one_process_set(verdicts, times)


def mean_rule(times: Array) -> Outcome:
    """Mean against mean in one set of processes, a point estimate: what `--benchmark-compare-fail=mean:3%` does."""
    means = np.exp(times[:, 0]).mean(axis=1)
    verdicts = np.where(means[:, _CANDIDATE] / means[:, _BASELINE] <= LIMIT, 1, -1).astype(np.int8)
    return _of_one_process_set(verdicts, times)


def _of_one_process_set(verdicts: NDArray[np.int8], times: Array) -> Outcome:
    ones = np.ones(len(verdicts))
    return Outcome(verdicts, ones * _sampling(times.shape[2], 1), ones)


BONFERRONI_LOOKS = (4, 6, 8, 12)
PROCEDURES = (
    Procedure("replicate t, in use", 15, replicate_t(LOOKS, per_look_error(ERROR))),
    Procedure("the same, of means", 15, replicate_mean_t(LOOKS, per_look_error(ERROR))),
    Procedure("the same, without the twin", 15, replicate_t(LOOKS, per_look_error(ERROR), [_BASELINE])),
    Procedure("the same, 30 rounds", 30, replicate_t(LOOKS, per_look_error(ERROR))),
    Procedure("ratio of two medians", 15, replicate_medians_t(LOOKS, per_look_error(ERROR))),
    Procedure("the same, 30 rounds, 4 looks, Bonferroni", 30, replicate_medians_t(BONFERRONI_LOOKS, ERROR / 4)),
    Procedure("sequential t over rounds", 120, rounds_t((30, 60, 90, 120))),
    Procedure("bootstrap over rounds", 60, rounds_bootstrap),
    Procedure("mean rule", 60, mean_rule),
)
"""The one in use first, then what it was chosen over; the last three see one set of processes, however long."""


# --- the tables ---


@dataclass(frozen=True)
class Rates:
    """Of one procedure under one noise: shares of wrong verdicts at the limit, of right ones elsewhere; seconds."""

    wrong_pass: float
    wrong_fail: float
    passed_inside: float
    failed_outside: float
    median_sampling: float
    median_wall: float


def rates(procedure: Procedure, noise: str, trials: int) -> Rates:
    """Run a procedure at, inside and outside the limit; the seconds are those of the truth outside."""
    one_set = procedure.name in {each.name for each in PROCEDURES[-3:]}
    outcomes = {
        name: procedure.decide(
            simulate(noise, truth, procedure.rounds, trials, replicates=1 if one_set else MOST_REPLICATES)
        )
        for name, truth in TRUTHS.items()
    }
    share = {name: lambda side, each=each: float((each.verdicts == side).mean()) for name, each in outcomes.items()}
    outside = outcomes["outside"]
    return Rates(
        share["at the limit"](1),
        share["at the limit"](-1),
        share["inside"](1),
        share["outside"](-1),
        float(np.median(outside.sampling)),
        float(np.median(outside.wall)),
    )


def print_rates(trials: int) -> None:
    """Print the table, in Markdown."""
    print(
        f"{trials} simulated runs a cell; limit {LIMIT}, promised one-sided error {ERROR:.0%}, calls of {CALL_MS} ms.\n"
    )
    print(
        "| procedure | noise | wrong pass at 1.03 | wrong fail at 1.03 | passed at 1.01 | failed at 1.05 | sampling | wall |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for procedure in PROCEDURES:
        for noise in NOISE:
            found = rates(procedure, noise, trials)
            print(
                f"| {procedure.name} | {noise} | {found.wrong_pass:.2%} | {found.wrong_fail:.2%} | {found.passed_inside:.0%} "
                f"| {found.failed_outside:.0%} | {found.median_sampling:.1f} s | {found.median_wall:.1f} s |",
                flush=True,
            )


def print_shares(series: int) -> None:
    """Print, for each number of looks, the share of an error that each look may have; see bench/looks.py."""
    random = np.random.default_rng(1)
    worst = np.empty((len(LOOKS), 0))
    for _ in range(max(1, series // 200_000)):
        values = random.standard_normal((200_000, LOOKS[-1]))
        p_values = [_one_sided_p(values[:, :look]) for look in LOOKS]
        worst = np.hstack([worst, np.minimum.accumulate(np.stack(p_values), axis=0)])
    for looks in range(1, len(LOOKS) + 1):
        shares = [float(np.quantile(worst[looks - 1], error)) / error for error in ERRORS[:-1]]
        print(looks, " ".join(f"{share:.3f}" for share in shares), f"{1 / looks:.3f}")


def _one_sided_p(values: Array) -> Array:
    n = values.shape[1]
    statistic = values.mean(axis=1) / values.std(axis=1, ddof=1) * math.sqrt(n)
    tail: Array = special.stdtr(n - 1, -statistic)
    return tail


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=4000, help="simulated runs a cell")
    parser.add_argument("--shares", action="store_true", help="print the table of bench/looks.py instead")
    parser.add_argument("--series", type=int, default=12_000_000, help="simulated series for --shares")
    chosen = parser.parse_args()
    print_shares(chosen.series) if chosen.shares else print_rates(chosen.trials)


if __name__ == "__main__":
    main()
