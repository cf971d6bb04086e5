"""A page and a summary of what pytest-benchmark saved: the times as they are, with the warning that they were not interleaved."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import words
from .beside import Beside, BesideTable, RunColumn
from .figures import Figure, draw
from .looks import Look, look
from .markdown import MOST_LINES, escape
from .pages import page
from .saved_benchmarks import Benchmark, SavedBenchmarks, in_words
from .tables import Cell

if TYPE_CHECKING:
    from .charts import Chart

GROUPS_DRAWN, CURVES_DRAWN = 6, 12
"""Of a file the first groups have a chart, with the first benchmarks that have raw data."""
_NOTE = "Medians, with the interquartile range below. The files were made in sessions of their own: a difference may be the machine's."
_ROWS_OF_SUMMARY = 40


@dataclass(frozen=True)
class BenchmarkRow:
    """A benchmark of a table; `look` is that of its curve, None where it has none."""

    name: str
    look: Look | None
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class GroupView:
    """The benchmarks of one group, and their distributions where the file has raw data."""

    name: str
    rows: tuple[BenchmarkRow, ...]
    figure: Figure | None


@dataclass(frozen=True)
class FileView:
    """One file."""

    key: str
    saved: SavedBenchmarks
    groups: tuple[GroupView, ...]


@dataclass(frozen=True)
class MachineView:
    """The files of one machine, and their medians beside each other where there are several."""

    name: str
    files: tuple[FileView, ...]
    beside: tuple[Beside, ...]


def to_html(files: Sequence[SavedBenchmarks]) -> str:
    """Return the page of one or several files; those of unlike machines are kept apart."""

    def charts() -> list[list["Chart"]]:
        from .benchmark_charts import charts_of

        return [charts_of(curves(saved)) for saved in files]

    drawn, undrawn = draw(charts)
    views = [_view(f"r{index}", *each) for index, each in enumerate(zip(files, drawn, strict=True), 1)]
    return page("benchmarks.html", machines=tuple(_machines(views)), files=views, undrawn=undrawn)


def curves(saved: SavedBenchmarks) -> dict[str, list[Benchmark]]:
    """The benchmarks that are drawn, by group: those with raw data, as far as there is room."""
    found = {name: [each for each in group if each.stats.data][:CURVES_DRAWN] for name, group in saved.groups.items()}
    return dict([(name, group) for name, group in found.items() if group][:GROUPS_DRAWN])


def _view(key: str, saved: SavedBenchmarks, figures: Sequence[Figure]) -> FileView:
    drawn = curves(saved)
    by_group = dict(zip(drawn, figures, strict=False))
    groups = []
    for name, group in saved.groups.items():
        looks = _looks(group, len(drawn.get(name, ())))
        rows = tuple(BenchmarkRow(each.name, looks.get(place), tuple(_cells(each))) for place, each in enumerate(group))
        groups.append(GroupView(name, rows, by_group.get(name)))
    return FileView(key, saved, tuple(groups))


def _looks(group: Sequence[Benchmark], drawn: int) -> dict[int, Look]:
    """The looks of those of a group that are drawn, the first with raw data, by their places in it."""
    places = [place for place, each in enumerate(group) if each.stats.data]
    return {place: look(number) for number, place in enumerate(places[:drawn])}


def _cells(each: Benchmark) -> Iterator[Cell]:
    """Min, median, mean, standard deviation, interquartile range, max, and the rounds."""
    stats = each.stats
    for seconds in (stats.min, stats.median, stats.mean, stats.stddev, stats.iqr, stats.max):
        yield Cell(in_words(seconds), "", seconds)
    iterations = f"of {stats.iterations:,} iterations" if stats.iterations > 1 else ""
    yield Cell(f"{stats.rounds:,}", iterations, stats.rounds)


def _machines(views: Sequence[FileView]) -> Iterator[MachineView]:
    names = dict.fromkeys(view.saved.machine for view in views)
    for name in names:
        found = sorted((view for view in views if view.saved.machine == name), key=lambda view: view.saved.date)
        yield MachineView(name, tuple(found), (_beside(found),) if len(found) > 1 else ())


def _beside(views: Sequence[FileView]) -> Beside:
    """The medians of all files of a machine: a table a group, a column a file, by date."""
    columns = tuple(_column(each) for each in views)
    groups = dict.fromkeys(group for each in views for group in each.saved.groups)
    tables = tuple(BesideTable(group or "Benchmarks", tuple(_medians(views, group))) for group in groups)
    return Beside(views[0].saved.project or "Benchmarks", _NOTE, columns, (), tables)


def _column(view: FileView) -> RunColumn:
    date = words.moment(view.saved.date)
    return RunColumn(view.key, ", ".join(filter(None, [view.saved.path.name, date])), view.saved.commit, "")


def _medians(views: Sequence[FileView], group: str) -> Iterator[tuple[str, tuple[Cell, ...]]]:
    """A row a benchmark, told by its full name as pytest-benchmark tells them, and called by it where two have one name."""
    found = [{each.fullname or each.name: each for each in view.saved.groups.get(group, ())} for view in views]
    names: dict[str, str] = {}
    for key, each in (pair for benchmarks in found for pair in benchmarks.items()):
        names[key] = max(names.get(key, ""), each.name, key=len)
    times = Counter(names.values())
    for key, name in names.items():
        yield key if times[name] > 1 else name, tuple(_median(benchmarks.get(key)) for benchmarks in found)


def _median(found: Benchmark | None) -> Cell:
    return Cell(in_words(found.stats.median), in_words(found.stats.iqr)) if found else Cell()


def to_markdown(files: Sequence[SavedBenchmarks]) -> str:
    """Return the warning and the medians of the files in at most MOST_LINES lines."""
    lines: list[str] = []
    for saved in files:
        about = (saved.date and words.moment(saved.date), saved.commit and f"commit {saved.commit}", saved.machine)
        shown = saved.benchmarks[: _ROWS_OF_SUMMARY // len(files)]
        lines += [f"### {escape(saved.project or saved.path.name)}", "", escape(saved.warning), ""]
        lines += ["| benchmark | median | IQR | mean | rounds |", "| --- | ---: | ---: | ---: | ---: |"]
        lines += [_markdown_row(each) for each in shown]
        if len(saved.benchmarks) > len(shown):
            lines.append(f"| {len(saved.benchmarks) - len(shown)} more | | | | |")
        lines += ["", f"<sub>{escape(', '.join(filter(None, about)))}</sub>", ""]
    return "\n".join(lines[:MOST_LINES]).rstrip("\n") + "\n"


def _markdown_row(each: Benchmark) -> str:
    times = (in_words(seconds) for seconds in (each.stats.median, each.stats.iqr, each.stats.mean))
    return f"| {' | '.join([escape(each.name), *times, f'{each.stats.rounds:,}'])} |"
