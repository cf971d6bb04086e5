"""report.html: one self-contained file that opens from disk; no network, no script but a small one for tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..bench.metrics import METRICS
from ..bench.results import Gate
from . import beside, classes, confusions, facts, flips, search, slices, tables, texts, verdicts
from .figures import Figure, draw
from .findings import Findings
from .looks import Look, looks
from .pages import page
from .run_folder import Run

if TYPE_CHECKING:
    from .charts import Chart

_OPEN_PASSES = 3
"""So many passed gates of a rule are shown in full; more of them are folded away."""


@dataclass(frozen=True)
class RuleView:
    """A rule: its words, its counts, the gates to show and those to fold away."""

    text: str
    counts: str
    shown: tuple[Gate, ...]
    folded: tuple[Gate, ...]


@dataclass(frozen=True)
class RunView:
    """Everything that the template prints of one run."""

    key: str
    run: Run
    findings: Findings
    headline: verdicts.Headline
    exit_sentence: str
    counts: str
    rules: tuple[RuleView, ...]
    shape_tables: tuple[tables.Table, ...]
    quality_table: tables.Table
    slice_tables: tuple[slices.SliceTable, ...]
    class_views: tuple[classes.ClassView, ...]
    confusion_views: tuple[confusions.ConfusionView, ...]
    cost_table: tables.Table
    confidence: str
    quality_confidence: str
    glossary: tuple[tuple[str, str], ...]
    looks: Mapping[str, Look]
    figures: tuple[Figure, ...]
    flips: tuple[flips.FlipView, ...]
    texts: tuple[texts.TextsView, ...]
    search_tables: tuple[search.SearchTable, ...]
    environment: tuple[tuple[str, str], ...]
    command: str

    def figures_of(self, group: str) -> list[Figure]:
        """The charts of one group."""
        return [figure for figure in self.figures if figure.group == group]


@dataclass(frozen=True)
class Machine:
    """The runs of one machine, and those of them that stand beside each other."""

    name: str
    views: tuple[RunView, ...]
    beside: tuple[beside.Beside, ...]


def to_html(runs: Sequence[Run]) -> str:
    """Return the page of one or several runs; runs of unlike machines are kept apart.

    Raises:
        InputError: a run's samples are damaged.
    """
    findings = [Findings(run.results) for run in runs]

    def charts() -> list[list["Chart"]]:
        from .charts import charts_of

        return [charts_of(run, each) for run, each in zip(runs, findings, strict=True)]

    drawn, undrawn = draw(charts)
    views = [_view(f"r{index}", *each) for index, each in enumerate(zip(runs, findings, drawn, strict=True), 1)]
    return page(
        "page.html",
        views=views,
        machines=_machines(views),
        undrawn=undrawn,
        CLASSES_CAPTION=classes.CAPTION,
        CONFUSIONS_CAPTION=confusions.CAPTION,
        TEXTS_CAPTION=texts.CAPTION,
    )


def _machines(views: Sequence[RunView]) -> list[Machine]:
    """The runs by the machine that they were made on, in the order of their first run."""
    groups: dict[str, list[RunView]] = {}
    for view in views:
        groups.setdefault(str(view.run.results.environment.get("machine", "")), []).append(view)
    return [Machine(name, tuple(found), tuple(_beside(found))) for name, found in groups.items()]


def _beside(views: Sequence[RunView]) -> Iterator[beside.Beside]:
    return beside.groups([beside.Dated(view.key, view.run, view.findings) for view in views])


def _view(key: str, run: Run, findings: Findings, figures: Sequence[Figure]) -> RunView:
    results = run.results
    speeds = [each for each in results.comparisons if each.metric == findings.speed and each.kind == "ratio"]
    qualities = [each for each in results.comparisons if METRICS[each.metric].family == "quality"]
    comparisons = tuple(tables.shape_tables(findings))
    costs, quality = tables.cost_table(findings), tables.quality_table(findings)
    columns = [column for table in (*comparisons, quality, costs) for column in table.columns if column.help]
    return RunView(
        key=key,
        run=run,
        findings=findings,
        headline=verdicts.headline(findings),
        exit_sentence=verdicts.exit_sentence(results),
        counts=verdicts.counts(results.gates),
        rules=tuple(_rules(findings)),
        shape_tables=comparisons,
        quality_table=quality,
        slice_tables=tuple(slices.tables_of(findings)),
        class_views=tuple(classes.views(results)),
        confusion_views=tuple(confusions.views(results)),
        cost_table=costs,
        confidence=tables.confidence(speeds),
        quality_confidence=tables.confidence(qualities),
        glossary=tuple({column.title: column.help for column in columns}.items()),
        looks=looks(findings),
        figures=tuple(figures),
        flips=tuple(flips.views(findings)),
        texts=tuple(texts.views(results)),
        search_tables=search.tables_of(results.search) if results.search else (),
        environment=tuple(facts.machine_facts(results.environment)),
        command=_command(run),
    )


def _command(run: Run) -> str:
    if run.results.search is not None:
        return f"weighbridge search CONFIG --max-drop {run.results.search.max_drop:g}"
    return f"weighbridge run {'config.toml' if run.config_toml else 'CONFIG'}"


def _rules(findings: Findings) -> Iterator[RuleView]:
    """Rules with what did not pass first; many passes are folded."""
    order = ("fail", "inconclusive", "not_evaluated")
    for rule in verdicts.rules(findings):
        open_ = sorted(
            (gate for gate in rule.gates if gate.verdict != "pass"), key=lambda gate: order.index(gate.verdict)
        )
        passed = [gate for gate in rule.gates if gate.verdict == "pass"]
        fold = len(passed) > _OPEN_PASSES
        shown, folded = (open_, passed) if fold else ([*open_, *passed], [])
        yield RuleView(rule.text, verdicts.counts(rule.gates), tuple(shown), tuple(folded))
