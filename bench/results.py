"""What a run found: the dataclasses behind results.json, its versioned schema, reading and writing.

Light on purpose: reports read results through this module without torch or ONNX Runtime.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..optimize.errors import InputError
from ..optimize.files import write_json
from ..optimize.plain_data import checked, parse_json
from .metrics import Conditions
from .search_findings import Search

SCHEMA_VERSION = 1
RESULTS = "results.json"

Status = Literal["ok", "unavailable", "failed"]
Verdict = Literal["pass", "fail", "inconclusive", "not_evaluated"]


@dataclass(frozen=True)
class VariantRow:
    """One variant of the run; `bytes`, `parameters`, `audit` and `parity` are None where it was not built."""

    name: str
    backend: str
    precision: str
    status: Status
    baseline: bool = False
    reason: str = ""
    note: str = ""
    bytes: int | None = None
    parameters: int | None = None
    audit: dict[str, Any] | None = None
    parity: dict[str, Any] | None = None
    steps: tuple[dict[str, Any], ...] = ()
    build_seconds: float | None = None


@dataclass(frozen=True)
class Measurement:
    """One absolute value. `value` is None where `note` says why (`n too small`)."""

    variant: str
    metric: str
    unit: str
    conditions: Conditions
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    standard_error: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """A candidate against the baseline: ratio candidate / baseline, or difference candidate - baseline.

    `confidence` is that of the whole interval, all looks together; `replicates` counts what it rests on (examples for
    quality). `per_replicate` are the single ratios, in order.
    """

    variant: str
    metric: str
    conditions: Conditions
    kind: Literal["ratio", "difference"]
    value: float
    low: float
    high: float
    confidence: float
    replicates: int
    per_replicate: tuple[float, ...] = ()


@dataclass(frozen=True)
class Control:
    """The twin of the baseline, weighed as if it were a candidate: its ratio to the baseline."""

    metric: str
    conditions: Conditions
    value: float
    low: float
    high: float
    per_replicate: tuple[float, ...] = ()


@dataclass(frozen=True)
class Gate:
    """One rule judged on one variant at one shape."""

    metric: str
    compare: Literal["value", "ratio", "difference"]
    limit: dict[str, float]
    variant: str
    conditions: Conditions
    verdict: Verdict
    sentence: str
    suspicious: bool = False


@dataclass(frozen=True)
class Flip:
    """An example that a candidate answers otherwise than the baseline does."""

    variant: str
    example: int
    label: str
    baseline_prediction: str
    prediction: str
    text: str = ""


@dataclass(frozen=True)
class ClassRecall:
    """The recall of one class, of the baseline and of a candidate, over its `n` examples.

    `low` and `high` bound the difference; all classes of a candidate together hold at 95 %.
    """

    variant: str
    class_name: str
    n: int
    baseline: float
    candidate: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Confusion:
    """How many examples of a class a variant takes for another; a pair that is not listed has none or is a rare one."""

    variant: str
    label: str
    prediction: str
    n: int


@dataclass(frozen=True)
class ReliabilityBin:
    """The `n` answers of a variant whose confidence lies from `low` to `high`: their mean confidence and their accuracy, 0-1."""

    variant: str
    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class GeneratedText:
    """What a candidate answered to a prompt, beside the baseline's answer.

    `first_divergence` is the first token that differs, None where none does; `margin` how near the baseline's two best logits lay
    there, None where the tokens were drawn or are the same. A `near_tie` is one that rounding alone may decide.
    """

    variant: str
    example: int
    prompt: str
    reference: str
    baseline_text: str
    text: str
    first_divergence: int | None = None
    margin: float | None = None
    near_tie: bool = False


@dataclass(frozen=True)
class Results:
    """Everything derived from a run's raw files; `samples` and `predictions` stay in their own files."""

    environment: dict[str, Any]
    config: dict[str, Any]
    variants: tuple[VariantRow, ...]
    measurements: tuple[Measurement, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    control: tuple[Control, ...] = ()
    gates: tuple[Gate, ...] = ()
    flips: tuple[Flip, ...] = ()
    class_recalls: tuple[ClassRecall, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    reliability: tuple[ReliabilityBin, ...] = ()
    texts: tuple[GeneratedText, ...] = ()
    notices: tuple[str, ...] = ()
    """Sentences about the run as a whole: nothing was judged, accuracy not judged, the machine was loaded, ..."""
    search: Search | None = None
    """What a search tried and found before this run judged its choice; None where nothing was searched."""
    reference: str = ""
    """What the verdicts compare with where that is not the run's own baseline: a saved run, by its name."""
    exit_code: int = 0
    schema_version: int = SCHEMA_VERSION
    folder: Path = Path()
    """The run folder; not part of results.json, which may be moved with it."""

    @property
    def baseline(self) -> VariantRow:
        """The variant that the others are compared with."""
        return next(row for row in self.variants if row.baseline)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as written to results.json."""
        data = asdict(self)
        del data["folder"]
        return data

    @staticmethod
    def from_dict(data: Any) -> "Results":
        """Read plain data back.

        Raises:
            ValueError: it is not a run's results; the text says where.
        """
        from .sound_results import need_sound

        results = checked(Results, data)
        need_sound(results)
        return results


def write_results(results: Results, run_folder: Path) -> None:
    """Write results.json whole or not at all."""
    write_json(run_folder / RESULTS, results.to_dict())


def read_results(run_folder: Path) -> Results:
    """Read a run's results.json.

    Raises:
        InputError: it is missing, cut short, not of a run, or of another schema version.
    """
    path = run_folder / RESULTS
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{run_folder} is not a run folder: it has no {RESULTS}. Give a folder that `weighbridge run` wrote."
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}). `weighbridge gate {run_folder}` writes it again from the raw files."
        ) from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{path} has schema version {version}; this release reads {SCHEMA_VERSION}. Render it with the release that wrote it."
        )
    try:
        return replace(Results.from_dict(data), folder=run_folder)
    except ValueError as error:
        raise InputError(f"{path} does not follow the results schema: {error}.") from error
