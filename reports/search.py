"""What a search tried: sensitivity of each layer, the ledger of the rollback, the front; every cell is ready to print."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..bench.search_findings import Bounded, LedgerRow, Metric, Search, Sensitivity, perplexity_change
from . import words
from .tables import Cell, Column

_SHOWN_LAYERS = 3
_KL = "mean Kullback-Leibler divergence of the probabilities (of classes, of next tokens) from the float model's, in thousandths of a nat"
_COST = "what a layer in float adds to a call (a generator's: a request), against the same layer quantized"
_RETURNED: dict[Metric, Column] = {
    "accuracy": Column(
        "Accuracy returned", "what a layer in float gives back, on the same examples of the choosing part", "points"
    ),
    "perplexity": Column(
        "Perplexity change", "what a layer in float changes it by, on the same windows of the choosing part", "%"
    ),
}
_EXAMPLES: dict[Metric, str] = {"accuracy": "examples", "perplexity": "windows of text"}
_CALL: dict[Metric, str] = {"accuracy": "of a call", "perplexity": "of a whole request"}
_CHANGE: dict[Metric, Column] = {
    "accuracy": Column("Change", "accuracy against the baseline", "points"),
    "perplexity": Column("Change", "perplexity against the baseline", "%"),
}


@dataclass(frozen=True)
class SearchTable:
    """One table: its title, a sentence below it, headings, and rows whose first cell names them."""

    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


def tables_of(search: Search) -> tuple[SearchTable, ...]:
    """Sensitivity, ledger and front; a table without rows is left out."""
    tables = (_sensitivity(search), _ledger(search), _front(search))
    return tuple(each for each in tables if each.rows)


def _sensitivity(search: Search) -> SearchTable:
    ordered = sorted(search.sensitivity, key=lambda each: -(each.kl.value if each.kl else float("-inf")))
    note = (
        f"Each layer of {search.searched} left in float alone, the most sensitive first. Two copies of {search.searched} took "
        f"{search.control.value:.3f} [{search.control.low:.3f}, {search.control.high:.3f}] of each other's time here: finer costs "
        "cannot be told. Intervals are 95 %, each for itself."
    )
    columns = (
        Column("Layer", "the layer, by its module"),
        Column("KL returned", _KL, "mnat"),
        _RETURNED[search.metric],
        Column("Cost", _COST, "ms"),
    )
    return SearchTable(
        "Sensitivity", note, columns, tuple(tuple(_sensitivity_cells(each, search.metric)) for each in ordered)
    )


def _sensitivity_cells(row: Sensitivity, metric: Metric) -> Iterator[Cell]:
    yield Cell(row.layer, row.reason)
    yield _thousandths(row.kl)
    yield _quality(row.accuracy, metric)
    yield _milliseconds(row.cost)


def _ledger(search: Search) -> SearchTable:
    note = (
        f"Layers returned to float one after another until the budget was kept on {search.choosing:,} choosing {_EXAMPLES[search.metric]}, then "
        "quantized again one by one. Cost and return are those of the layer in float, at that step; time and change are those of the variant "
        "as it was tried."
    )
    columns = (
        Column("Step", "in order"),
        Column("Layer", "the layer, by its module"),
        Column("Decision", "what became of it"),
        Column("Cost", _COST, "ms"),
        _RETURNED[search.metric],
        Column("Time", f"{_CALL[search.metric]} of the variant", "ms"),
        _CHANGE[search.metric],
    )
    return SearchTable(
        "Ledger", note, columns, tuple(tuple(_ledger_cells(each, search.metric)) for each in search.ledger)
    )


def _ledger_cells(row: LedgerRow, metric: Metric) -> Iterator[Cell]:
    yield Cell(str(row.step), "", row.step)
    yield Cell(row.layer)
    yield Cell(row.decision, row.reason)
    yield _milliseconds(row.cost)
    yield _quality(row.returned, metric)
    yield _milliseconds(row.ms)
    yield _quality(row.difference, metric)


def _front(search: Search) -> SearchTable:
    note = (
        "Every trial that no other beats in both time and quality beyond both intervals, on the choosing part. Those with a name "
        "were weighed and judged on the other part."
    )
    columns = (
        Column("Layers in float", "in the trial"),
        Column("Weighed as", "its name in this run"),
        Column("Time", _CALL[search.metric], "ms"),
        _CHANGE[search.metric],
        Column("n", _EXAMPLES[search.metric]),
    )
    phases = {each.number: each.phase for each in search.trials}
    rows = []
    for each in search.front:
        named = "the float model" if phases.get(each.trial) == "float" else _listed(each.kept)
        count = Cell(f"{each.examples:,}", "", each.examples)
        change = _quality(each.difference, search.metric)
        rows.append((Cell(named), Cell(each.variant), _milliseconds(each.ms), change, count))
    return SearchTable("Front", note, columns, tuple(rows))


def _listed(layers: Sequence[str]) -> str:
    if not layers:
        return "none"
    more = f" and {len(layers) - _SHOWN_LAYERS} more" if len(layers) > _SHOWN_LAYERS else ""
    return ", ".join(layers[:_SHOWN_LAYERS]) + more


def _quality(found: Bounded | None, metric: Metric) -> Cell:
    """A difference in points of accuracy; of log-likelihoods as what it does to perplexity, in percent."""
    if found is not None and metric == "perplexity":
        found = perplexity_change(found)
    return _cell(found, 100, "{:+.2f}")


def _thousandths(found: Bounded | None) -> Cell:
    return _cell(found, 1000, "{:+.2f}")


def _milliseconds(found: Bounded | None) -> Cell:
    if found is None:
        return Cell()
    value, low, high = (words.significant(each) for each in (found.value, found.low, found.high))
    return Cell(value, f"[{low}, {high}]", found.value)


def _cell(found: Bounded | None, unit: float, form: str) -> Cell:
    if found is None:
        return Cell()
    value, low, high = (form.format(unit * each) for each in (found.value, found.low, found.high))
    return Cell(value, f"[{low}, {high}]", found.value)
