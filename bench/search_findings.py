"""What a search found, as plain data: the `search` object of results.json. Light, for the reports read it."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ..optimize.errors import InputError
from ..optimize.files import write_json
from ..optimize.plain_data import checked, parse_json

FOLDER = "search"
"""Of a run folder: what the search tried, and what it found."""
_FINDINGS = "findings.json"

Phase = Literal["whole", "float", "sensitivity", "rollback", "removal"]
Metric = Literal["accuracy", "perplexity"]
"""What a search looks at: of a classifier, of a generator."""
Decision = Literal["left in float", "put back", "needed", "not built"]


@dataclass(frozen=True)
class Bounded:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def perplexity_change(found: Bounded) -> Bounded:
    """What a difference of log-likelihoods a token does to perplexity, as a share of it."""
    return Bounded(*(math.expm1(-each) for each in (found.value, found.high, found.low)))


@dataclass(frozen=True)
class TrialRow:
    """One trial: which layers stayed in float, and what that gave on `examples` of the choosing part.

    `difference` is its quality less the baseline's on the same examples, `kl` the mean Kullback-Leibler divergence of its class
    probabilities (next tokens) from the float model's in nats, `ms` the length of a call (a request). They are None where it
    failed, and `reason` says why. Quality is `accuracy`; of a generator the log of the likelihood of a token, so that a
    difference is minus the log of the ratio of perplexities. So it is in every row here.
    """

    number: int
    phase: Phase
    kept: tuple[str, ...]
    examples: int
    seconds: float
    reason: str = ""
    accuracy: float | None = None
    perplexity: float | None = None
    difference: Bounded | None = None
    kl: float | None = None
    ms: Bounded | None = None


@dataclass(frozen=True)
class Sensitivity:
    """One layer returned to float out of the whole quantized variant: what that gives back, and what it costs.

    `accuracy` (the quality) and `kl` are what it gives back (KL: how much nearer to the float model), `cost` the milliseconds a
    call that it adds.
    """

    layer: str
    trial: int
    reason: str = ""
    accuracy: Bounded | None = None
    kl: Bounded | None = None
    cost: Bounded | None = None


@dataclass(frozen=True)
class LedgerRow:
    """One step of the rollback: the layer, what its return to float cost and gave against the step before, the decision.

    `ms` and `difference` (quality less the baseline's) are those of the whole variant as it was tried.
    """

    step: int
    layer: str
    trial: int
    decision: Decision
    reason: str = ""
    cost: Bounded | None = None
    returned: Bounded | None = None
    ms: Bounded | None = None
    difference: Bounded | None = None
    kl: float | None = None


@dataclass(frozen=True)
class FrontRow:
    """A trial that no other beats in both speed and quality beyond both intervals; `variant` is its name where it was weighed."""

    trial: int
    variant: str
    kept: tuple[str, ...]
    ms: Bounded
    difference: Bounded
    examples: int


@dataclass(frozen=True)
class Search:
    """A whole search. `met` tells of the choosing part alone; the verdict on the judging part is the run's.

    `control` is the ratio of two copies of the whole quantized variant: finer differences of speed cannot be told here.
    `max_drop` is accuracy that may be lost, or perplexity that may be added as a share of the baseline's, by `metric`.
    """

    searched: str
    chosen: str
    met: bool
    max_drop: float
    max_seconds: float
    seconds: float
    choosing: int
    judging: int
    control: Bounded
    sentences: tuple[str, ...]
    sensitivity: tuple[Sensitivity, ...]
    ledger: tuple[LedgerRow, ...]
    front: tuple[FrontRow, ...]
    trials: tuple[TrialRow, ...]
    metric: Metric = "accuracy"


def write_search(search: Search, run_folder: Path) -> None:
    """Write what a search found into its run folder, whole or not at all."""
    write_json(run_folder / FOLDER / _FINDINGS, asdict(search))


def read_search(run_folder: Path) -> Search | None:
    """What the search of a run found; None for a run without one.

    Raises:
        InputError: the file is damaged.
    """
    path = run_folder / FOLDER / _FINDINGS
    if not path.is_file():
        return None
    try:
        return checked(Search, parse_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); the run folder is damaged") from error
