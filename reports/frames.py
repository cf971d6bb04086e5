"""A run as tidy pandas DataFrames: one row an observation, a column for every key of `conditions`.

All frames have `variant`. Those of measurements, comparisons, gates and samples have the shape columns `batch_size`,
`sequence_length`, `prompt_length`, `max_new_tokens`, `past_length`, `concurrency`, `rate`, `threads`, `slice`, missing where a
shape has no such key.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bench.metrics import SHAPE_KEYS
from ..bench.results import read_results
from . import rows
from .run_folder import read_samples

if TYPE_CHECKING:
    import pandas as pd

_MEASUREMENT = ("variant", "metric", "unit", *SHAPE_KEYS, "value", "low", "high", "n", "standard_error", "note")
_COMPARISON = ("variant", "metric", "kind", "unit", *SHAPE_KEYS, "value", "low", "high", "confidence", "n")
_VARIANT = (
    *("variant", "backend", "precision", "status", "baseline", "reason", "note"),
    *("bytes", "parameters", "build_seconds"),
)
_CLASS_RECALL = ("variant", "class_name", "n", "baseline", "candidate", "difference", "low", "high")
_CONFUSION = ("variant", "label", "prediction", "n")
_RELIABILITY = ("variant", "low", "high", "n", "confidence", "accuracy")
_GATE = ("metric", "compare", "min", "max", "variant", *SHAPE_KEYS, "verdict", "suspicious", "sentence")


def measurements(run_folder: Path | str) -> "pd.DataFrame":
    """Absolute values.

    Columns: variant, metric, unit, the shape, value / low / high / standard_error (all in `unit`; value is missing
    where `note` says why), n (timed calls, examples or processes), note.

    Raises:
        InputError: the folder has no readable results.json.
    """
    return _frame(rows.measurement_rows(read_results(Path(run_folder))), _MEASUREMENT)


def comparisons(run_folder: Path | str) -> "pd.DataFrame":
    """Candidates, and the control (variant `<control>`), against the baseline.

    Columns: variant, metric, kind (ratio: candidate / baseline; difference: candidate - baseline; control: a ratio),
    unit (1 for ratios), the shape, value / low / high (in `unit`), confidence (of the whole interval), n (replicates;
    examples for quality).

    Raises:
        InputError: the folder has no readable results.json.
    """
    results = read_results(Path(run_folder))
    both = (*rows.comparison_rows(results), *rows.control_rows(results))
    return _frame(({**row, "kind": row["record"]} for row in both), _COMPARISON)


def gates(run_folder: Path | str) -> "pd.DataFrame":
    """Verdicts.

    Columns: metric, compare (value, ratio, difference), min and max (the limit; one of them is missing), variant, the
    shape, verdict (pass, fail, inconclusive, not_evaluated), suspicious, sentence.

    Raises:
        InputError: the folder has no readable results.json.
    """
    return _frame(rows.gate_rows(read_results(Path(run_folder))), _GATE)


def variants(run_folder: Path | str) -> "pd.DataFrame":
    """What became of every variant.

    Columns: variant, backend, precision, status (ok, unavailable, failed), baseline, reason, note, bytes (of the artifact),
    parameters (a count), build_seconds; the last three are missing where it was not built.

    Raises:
        InputError: the folder has no readable results.json.
    """
    found = read_results(Path(run_folder)).variants
    return _frame(({"variant": row.name, **asdict(row)} for row in found), _VARIANT)


def class_recalls(run_folder: Path | str) -> "pd.DataFrame":
    """The recall of every class for every candidate.

    Columns: variant, class_name, n (examples of the class), baseline, candidate and difference (shares 0-1), low / high (of the
    difference; all classes of a variant hold together at 95 %).

    Raises:
        InputError: the folder has no readable results.json.
    """
    return _frame(map(asdict, read_results(Path(run_folder)).class_recalls), _CLASS_RECALL)


def confusions(run_folder: Path | str) -> "pd.DataFrame":
    """The wrong answers of every variant, the commonest pairs of classes first; a pair without a row has none or is a rare one.

    Columns: variant, label, prediction, n (examples).

    Raises:
        InputError: the folder has no readable results.json.
    """
    return _frame(map(asdict, read_results(Path(run_folder)).confusions), _CONFUSION)


def reliability(run_folder: Path | str) -> "pd.DataFrame":
    """Confidence against accuracy in equal-width bins of confidence; empty bins are left out.

    Columns: variant, low / high (ends of the bin), n (answers in it), confidence and accuracy (means over them); shares 0-1.

    Raises:
        InputError: the folder has no readable results.json.
    """
    return _frame(map(asdict, read_results(Path(run_folder)).reliability), _RELIABILITY)


def samples(run_folder: Path | str) -> "pd.DataFrame":
    """Every raw sample.

    Columns: replicate, round, visit, call (counts), phase (first, warmup, settle, timed; end_to_end: timed, from raw inputs;
    generators: prefill and decode in the place of timed), variant (`<control>` is the baseline's twin), the shape, milliseconds.

    Raises:
        InputError: a samples file is damaged.
    """
    import json

    import pandas as pd

    frame = read_samples(Path(run_folder)).to_pandas()
    distinct = {text: json.loads(text) for text in frame["conditions"].unique()}
    shapes = pd.DataFrame([distinct[text] for text in frame["conditions"]], columns=list(SHAPE_KEYS), index=frame.index)
    place = list(frame.columns).index("conditions")
    found: pd.DataFrame = pd.concat([frame.iloc[:, :place], shapes, frame.iloc[:, place + 1 :]], axis=1)
    return found


def _frame(found: Iterable[Mapping[str, Any]], columns: tuple[str, ...]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame([{name: row.get(name) for name in columns} for row in found], columns=list(columns))
