"""Results as tables that fit 80 columns, and verdicts as sentences."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..building import Built
from ..results import Comparison, Results, VariantRow

_MARKS = {"pass": "+", "fail": "x", "inconclusive": "?", "not_evaluated": "-"}
_SPEED = ("latency_p50", "tpot")
_QUALITY = ("accuracy", "perplexity", "agreement")


def print_results(results: Results, console: Console) -> None:
    """Print the comparison table a shape, the reasons of rows that are not ok, the verdicts and the notices."""
    speeds = [each for each in results.comparisons if each.metric in _SPEED and each.kind == "ratio" and _whole(each)]
    shapes = list(dict.fromkeys(_shape_words(each) for each in speeds)) or [""]
    for shape in shapes:
        console.print(_table(results, [each for each in speeds if _shape_words(each) == shape], shape))
    for row in results.variants:
        if row.status == "ok" and row.note:
            console.print(f"{row.name}: {row.note}", markup=False)
    print_gates(results, console)


def print_gates(results: Results, console: Console) -> None:
    """Print why variants are not ok, every verdict as a sentence, then the notices."""
    for row in results.variants:
        if row.status != "ok":
            console.print(f"{row.name}: {row.status}: {row.reason}", markup=False)
    for gate in results.gates:
        flag = " (suspicious: an implausible gain)" if gate.suspicious else ""
        console.print(f"{_MARKS[gate.verdict]} {gate.sentence}{flag}", markup=False)
    for notice in results.notices:
        console.print(notice, markup=False)


def print_built(built: Sequence[Built], folder: Path, console: Console) -> None:
    """Print what became of each variant."""
    table = Table(title=f"variants in {folder}", title_justify="left")
    for heading in ("variant", "status", "MB", "build", "reason or note"):
        table.add_column(heading, overflow="fold")
    for made in built:
        manifest = made.variant.manifest if made.folder is not None else None
        table.add_row(
            made.name,
            made.status,
            f"{manifest.bytes / 1e6:.2f}" if manifest else "",
            ("cached" if made.from_cache else f"{manifest.build_seconds:.1f} s") if manifest else "",
            manifest.note if manifest else made.reason,
        )
    console.print(table)


def _whole(speed: Comparison) -> bool:
    """Whether it is of whole requests, not of a part of each: parts have a chart in the report."""
    return "past_length" not in speed.conditions


def _table(results: Results, speeds: Sequence[Comparison], shape: str) -> Table:
    quality = next((name for name in _QUALITY if any(each.metric == name for each in results.measurements)), "quality")
    table = Table(title=f"{results.config['workload']['name']}: {shape}".rstrip(": "), title_justify="left")
    table.add_column("variant", overflow="fold")
    for heading in ("MB", "ms", "x baseline", quality):
        table.add_column(heading, justify="right")
    ratios = {each.variant: each for each in speeds}
    for row in results.variants:
        ratio = ratios.get(row.name)
        table.add_row(
            row.name,
            f"{row.bytes / 1e6:.2f}" if row.bytes is not None else "",
            _milliseconds(results, row, shape) or row.status,
            f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]" if ratio else ("baseline" if row.baseline else ""),
            _value(results, row, quality),
        )
    return table


def _milliseconds(results: Results, row: VariantRow, shape: str) -> str:
    for each in results.measurements:
        if (
            each.variant == row.name
            and each.metric in _SPEED
            and each.value is not None
            and _shape_words(each) == shape
        ):
            return f"{each.value:.3g}"
    return ""


def _value(results: Results, row: VariantRow, metric: str) -> str:
    for each in results.measurements:
        if each.variant == row.name and each.metric == metric and each.value is not None:
            return f"{each.value:.4g}"
    return ""


def _shape_words(each: object) -> str:
    conditions = getattr(each, "conditions", {})
    return ", ".join(f"{key} {value}" for key, value in conditions.items() if key != "threads")
