"""Several runs of one workload on one machine beside each other, by date: a column a run, a row a variant."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ..bench.metrics import Conditions
from . import words
from .findings import Findings
from .run_folder import Run
from .tables import Cell

_NOTE = (
    "Ratios are to each run's own baseline, weighed together with it, so that they may be held against those of other runs; absolute "
    "times hold for their own session only."
)


@dataclass(frozen=True)
class RunColumn:
    """A run as a column: the section that it links to, its date and commit in words, and its baseline (empty: none)."""

    key: str
    date: str
    commit: str
    baseline: str


@dataclass(frozen=True)
class BesideTable:
    """A table of variants (rows) over runs (columns)."""

    title: str
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


@dataclass(frozen=True)
class Beside:
    """The runs of one workload: a sentence on them, their columns by date, what changed between them, and the tables."""

    workload: str
    note: str
    columns: tuple[RunColumn, ...]
    changes: tuple[str, ...]
    tables: tuple[BesideTable, ...]


@dataclass(frozen=True)
class Dated:
    """A run with what is looked up of it, and the key of its section on the page."""

    key: str
    run: Run
    findings: Findings


def groups(runs: Sequence[Dated]) -> Iterator[Beside]:
    """A group for every workload with several runs, which must all be of one machine."""
    by_workload: dict[str, list[Dated]] = {}
    for each in runs:
        by_workload.setdefault(each.run.results.config.get("workload", {}).get("name", "run"), []).append(each)
    for workload, found in by_workload.items():
        if len(found) > 1:
            ordered = sorted(found, key=lambda each: str(each.run.results.environment.get("date", "")))
            yield Beside(
                workload, _NOTE, tuple(map(_column, ordered)), tuple(_changes(ordered)), tuple(_tables(ordered))
            )


def _column(each: Dated) -> RunColumn:
    environment = each.run.results.environment
    date = words.moment(str(environment.get("date", "")))
    return RunColumn(each.key, date, str(environment.get("commit", "")), each.findings.baseline)


def _changes(runs: Sequence[Dated]) -> Iterator[str]:
    """What differs between each run and the one before it, beside the numbers: versions, model, data, baseline."""
    for before, after in itertools.pairwise(runs):
        found = [
            *_versions(before.run.results.environment, after.run.results.environment),
            *(f"other {what}" for what in ("model", "data", "calibration data") if _differs(before, after, what)),
        ]
        if before.findings.baseline != after.findings.baseline:
            found.append(f"baseline {before.findings.baseline} → {after.findings.baseline}")
        if found:
            yield f"{_column(before).date} → {_column(after).date}: {', '.join(found)}"


def _versions(before: Mapping[str, dict[str, str]], after: Mapping[str, dict[str, str]]) -> Iterator[str]:
    old, new = (each.get("versions", {}) for each in (before, after))
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield f"{name} {old.get(name, 'none')} → {new.get(name, 'none')}"


def _differs(before: Dated, after: Dated, what: str) -> bool:
    """Whether both runs hashed it, and it is another."""
    hashes = [each.run.hashes.get(what) for each in (before, after)]
    return None not in hashes and hashes[0] != hashes[1]


def _tables(runs: Sequence[Dated]) -> Iterator[BesideTable]:
    """The main speed a shape, then the main quality, then the size; a table without a value is left out.

    Speed and quality are those of the first run that measured one, for a table holds one metric.
    """
    shapes: list[Conditions] = []
    for each in runs:
        shapes += [shape for shape in each.findings.shapes if shape not in shapes]
    speed = next((each.findings.speed for each in runs if each.findings.shapes), "")
    quality = next(filter(None, (each.findings.quality for each in runs)), "")
    makers: list[tuple[str, Callable[[Findings, str], Cell]]] = [
        *((f"{words.title(speed)}, {words.shape(shape)}", partial(_speed, speed, shape)) for shape in shapes),
        *([(words.title(quality), partial(_quality, quality))] if quality else []),
        ("size", _size),
    ]
    names = list(dict.fromkeys(row.name for each in runs for row in each.run.results.variants))
    for title, cell in makers:
        rows = tuple((name, tuple(cell(each.findings, name) for each in runs)) for name in names)
        filled = tuple(row for row in rows if any(each.text for each in row[1]))
        if filled:
            yield BesideTable(title, filled)


def _speed(metric: str, shape: Conditions, findings: Findings, name: str) -> Cell:
    """The ratio to the run's own baseline and, below it, the absolute value; of the baseline the value."""
    ratio = findings.exact_comparison(name, metric, shape, "ratio")
    found = findings.exact_measurement(name, metric, shape)
    if found is None or found.value is None:
        return Cell(_status(findings, name))
    absolute = words.quantity(found.metric, found.value)
    if ratio is None:
        return Cell(absolute, words.interval(found))
    return Cell(f"{words.speedup(ratio)} {words.speedup_bounds(ratio)}", absolute)


def _status(findings: Findings, name: str) -> str:
    """`failed` or `unavailable`; empty where the run has no such variant, or measured it at other shapes."""
    return next((row.status for row in findings.results.variants if row.name == name and row.status != "ok"), "")


def _quality(metric: str, findings: Findings, name: str) -> Cell:
    found = findings.measurement(name, metric, {})
    if found is None or found.value is None:
        return Cell()
    return Cell(words.quantity(found.metric, found.value), words.interval(found))


def _size(findings: Findings, name: str) -> Cell:
    row = next((row for row in findings.results.variants if row.name == name), None)
    found = findings.bytes_of(row) if row else None
    return Cell(words.megabytes(found)) if found is not None else Cell()
