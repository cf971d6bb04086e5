"""The noise floor of this machine: a model weighed against its own twin, whose true ratio is 1 (A/A).

The model is a small one of known work; it takes the whole road that a variant takes: its inputs are drawn from its signature,
the artifact is adopted and checked, and both processes are weighed in replicates. What comes out answers three questions:
how wide an interval is for a given time, which slowdown that time finds, and how often a rule on two means would have cried.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ..optimize.cache import in_use
from ..optimize.errors import UnavailableError, WorkerError
from ..optimize.files import work_folder
from .building import Built
from .checks import check_all
from .config import Config, MeasureConfig, parse_config
from .disturbance import disturbances
from .environment import processor
from .journal import Journal, read_journal
from .looks import LOOKS, per_look_error
from .metrics import METRICS, Conditions
from .plan import ShapePlan, make_plan
from .probe import write_probe
from .reporter import Reporter
from .running import Options, build_all, prepared_workload, shapes_of
from .samples import CONTROL, Replicate, key_of
from .session import Contender, Setting, only_one_weighs, weigh
from .speed import of_shape
from .stats import t_quantile
from .workloads.base import Prepared

STATISTICS = ("latency_p50", "latency_mean", "latency_p95")
TIMES = (5.0, 15.0, 60.0)
"""Seconds of sampling that the answers are given for."""
POWER = 0.95
ERROR_RATE = MeasureConfig().error_rate
THRESHOLDS = (0.01, 0.03, 0.05)
"""Limits that a rule on two means might have."""
_NAME = "probe"
_CONTENDERS = 3
"""A run of one candidate weighs it, the baseline and the baseline's twin: what its time buys is priced for three."""


@dataclass(frozen=True)
class Twins:
    """The timed calls of a model and of its twin in one replicate, milliseconds, shape (rounds, calls a visit) each."""

    model: NDArray[np.float64]
    twin: NDArray[np.float64]

    def ratio(self, statistic: str, rounds: int) -> float | None:
        """Twin / model of a statistic in the first `rounds` rounds; None where a percentile has too few calls."""
        calls = {_NAME: self.model[:rounds], CONTROL: self.twin[:rounds]}
        place = of_shape(METRICS[statistic], {})
        timed = {(name, place.shape): each.reshape(-1, 1) for name, each in calls.items()}
        of_round = {(name, place.shape): np.indices(each.shape)[0].ravel() for name, each in calls.items()}
        return place.ratio(Replicate(0, timed, {}, of_round), CONTROL, [_NAME])


@dataclass(frozen=True)
class Purchase:
    """What a time buys: replicates, and rounds of each."""

    seconds: float
    replicates: int
    rounds: int


@dataclass(frozen=True)
class Resolution:
    """What a time tells here, by statistic (those that have enough calls), as fractions of the baseline.

    Attributes:
        bought: the time, its replicates and rounds.
        spread: standard deviation of a replicate's log ratio.
        floor: half width of the interval around a true ratio of 1 at the default error rate.
        smallest: the smallest slowdown whose interval lies above 1, whole, with 95 % power.
    """

    bought: Purchase
    spread: Mapping[str, float]
    floor: Mapping[str, float]
    smallest: Mapping[str, float]


@dataclass(frozen=True)
class FalseAlarms:
    """Share of replicates in which a rule on two means cries for a difference that is not there.

    `in_turns`: both means over all rounds of the replicate. `in_sequence`: the model's over the first half of the rounds, its
    twin's over the second, which is how two programs are usually timed.
    """

    threshold: float
    in_turns: float
    in_sequence: float


@dataclass(frozen=True)
class Noise:
    """The A/A measurement of this machine.

    Attributes:
        call_ms: median call of the model, milliseconds.
        replicates: how many were taken.
        seconds: sampling time that they took.
        ratio: twin / model of p50, the exponent of the mean over replicates of its logarithm.
        resolutions: what each time tells, in order of the times.
        false_alarms: what the same samples would have told a rule on means.
        notices: what disturbed the measurement.
    """

    call_ms: float
    replicates: int
    seconds: float
    ratio: float
    resolutions: tuple[Resolution, ...]
    false_alarms: tuple[FalseAlarms, ...]
    notices: tuple[str, ...]


def measure(seconds: float, reporter: Reporter) -> Noise:
    """Weigh the model against its twin for about so many seconds of sampling (4 replicates at least).

    Raises:
        UnavailableError: ONNX Runtime cannot be used here.
        WorkerError: a process of the model failed.
    """
    with work_folder() as folder:
        write_probe(folder / f"{_NAME}.onnx")
        config = _config(folder / f"{_NAME}.onnx")
        options = Options(base=folder)
        with prepared_workload(config, options, reporter) as prepared:
            (made,) = build_all(config, prepared, options, reporter)
            if made.folder is None:
                raise UnavailableError(f"the noise floor is measured with ONNX Runtime: {made.reason}")
            return _weigh_twins(made, made.folder, config, prepared, folder, seconds, reporter)


def _config(probe: Path) -> Config:
    workload = {"name": _NAME, "model": str(probe), "task": "tabular-classification"}
    variants = [{"name": _NAME, "artifact": str(probe), "baseline": True}]
    return parse_config({"workload": workload, "variants": variants}, "doctor --noise")


def _weigh_twins(
    made: Built, artifact: Path, config: Config, prepared: Prepared, folder: Path, seconds: float, reporter: Reporter
) -> Noise:
    """Check the model, take the replicates, and compute."""
    (conditions,) = shapes_of(config, prepared)
    threads = config.measure.threads
    with in_use(artifact), only_one_weighs(reporter.tell):
        with reporter.stage("checking") as progress:
            (checked,) = check_all([made], prepared, (conditions,), threads=threads, provider=None, progress=progress)
        if checked.failure:
            raise WorkerError(f"the model that the noise floor is measured with failed: {checked.failure}")
        call_ms = checked.call_ms[key_of(conditions)]
        # All the rounds that any of the times would take, so that fewer can be cut from them.
        full = make_plan([conditions], {key_of(conditions): [call_ms] * 2}, max_seconds=max(*TIMES, seconds))
        wanted = max(LOOKS[0], round(seconds / full.seconds_per_replicate))
        both = (Contender(_NAME, artifact), Contender(CONTROL, artifact))
        with reporter.stage(f"weighing a model against itself, {wanted} times") as progress:
            setting = Setting(prepared.folder, folder, (both,), threads=threads)
            plan = replace(full, replicates=wanted, max_seconds=seconds)  # no time is left over for further rounds
            weighed = weigh(setting, plan, Journal(folder), lambda _: False, progress)
    if weighed.failed:
        raise WorkerError(
            f"the model that the noise floor is measured with failed {next(iter(weighed.failed.values()))}"
        )
    twins = [twins_of(each, full.shapes[0]) for each in weighed.replicates]
    purchases = [bought(each, conditions, call_ms) for each in sorted({*TIMES, seconds})]
    events = [event for event in read_journal(folder) if event["event"] == "replicate"]
    return noise_of(twins, purchases, weighed.sampling_seconds, disturbances(events, processor().cores))


def twins_of(replicate: Replicate, shape: ShapePlan) -> Twins:
    """The calls of the model and its twin in the planned rounds of a replicate, a row a round."""

    def rows(variant: str) -> NDArray[np.float64]:
        visits = replicate.visits(variant, shape.key)
        return np.stack([visits[each].sum(axis=1) for each in sorted(visits)[: shape.rounds]])

    return Twins(rows(_NAME), rows(CONTROL))


def bought(seconds: float, conditions: Conditions, call_ms: float) -> Purchase:
    """What a run of one candidate with calls of that length gets for so many seconds, as it would be planned."""
    plan = make_plan([conditions], {key_of(conditions): [call_ms] * _CONTENDERS}, max_seconds=seconds)
    return Purchase(seconds, plan.replicates, plan.shapes[0].rounds)


def noise_of(
    twins: Sequence[Twins], purchases: Sequence[Purchase], seconds: float, notices: Sequence[str] = ()
) -> Noise:
    """Compute everything from the samples of at least two replicates."""
    rounds = len(twins[0].model)
    return Noise(
        call_ms=float(np.median(np.concatenate([each.model for each in twins]))),
        replicates=len(twins),
        seconds=seconds,
        ratio=math.exp(float(log_ratios(twins, "latency_p50", rounds).mean())),
        resolutions=tuple(resolution_of(twins, each) for each in purchases),
        false_alarms=tuple(false_alarms_of(twins, each) for each in THRESHOLDS),
        notices=tuple(notices),
    )


def log_ratios(twins: Sequence[Twins], statistic: str, rounds: int) -> NDArray[np.float64]:
    """The logarithm of twin / model of each replicate, shape (replicates,); empty where the calls are too few."""
    ratios = [each.ratio(statistic, rounds) for each in twins]
    return np.log(np.array([ratio for ratio in ratios if ratio is not None], dtype=np.float64))


def resolution_of(twins: Sequence[Twins], purchase: Purchase) -> Resolution:
    """What so many replicates of so many rounds tell, by the spread of the replicates at hand, cut to as many rounds."""
    logs = {name: log_ratios(twins, name, purchase.rounds) for name in STATISTICS}
    spread = {name: float(values.std(ddof=1)) for name, values in logs.items() if len(values) > 1}
    n = purchase.replicates
    return Resolution(
        bought=purchase,
        spread=spread,
        floor={name: math.expm1(half_width(sd, n)) for name, sd in spread.items()},
        smallest={name: math.expm1(smallest_shift(sd, n)) for name, sd in spread.items()},
    )


def half_width(spread: float, replicates: int, error_rate: float = ERROR_RATE) -> float:
    """Half the width of Student's t interval of a mean log ratio after the last of its looks, one rule, one candidate."""
    return -t_quantile(per_look_error(error_rate, replicates), replicates - 1) * spread / math.sqrt(replicates)


def smallest_shift(spread: float, replicates: int, error_rate: float = ERROR_RATE, power: float = POWER) -> float:
    """The smallest true log ratio whose lower bound lies above 0 at the last look with that power.

    sqrt(n) mean / sd has a noncentral t distribution (n - 1 degrees, noncentrality sqrt(n) shift / spread); what is found is
    the noncentrality that leaves 1 - power of it below the quantile of the bound. Earlier looks can only find more. A run
    whose own control is off has wider intervals, and finds less.
    """
    degrees = replicates - 1
    bound = -t_quantile(per_look_error(error_rate, replicates), degrees)
    return float(special.nctdtrinc(degrees, 1 - power, bound)) * spread / math.sqrt(replicates)


def false_alarms_of(twins: Sequence[Twins], threshold: float) -> FalseAlarms:
    """How often the ratio of two means is off 1 by more than a threshold, each replicate taken as a benchmark of its own."""
    half = len(twins[0].model) // 2
    in_turns = np.array([each.twin.mean() / each.model.mean() for each in twins])
    in_sequence = np.array([each.twin[half:].mean() / each.model[:half].mean() for each in twins])
    shares = [float((np.abs(ratios - 1) > threshold).mean()) for ratios in (in_turns, in_sequence)]
    return FalseAlarms(threshold, *shares)
