"""report.html: one self-contained file that opens from disk; no network, no script but a small one for tables."""

import base64
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ..bench.results import Flip, Gate, VariantRow
from ..optimize.errors import WorkerError
from . import classes, search, tables, texts, verdicts, words
from .findings import Findings
from .looks import Look, looks
from .run_folder import Run
from .svg import Drawing, accessible

if TYPE_CHECKING:
    from .charts import Chart

_TEMPLATES = Path(__file__).parent / "templates"
_OPEN_PASSES = 3
"""So many passed gates of a rule are shown in full; more of them are folded away."""


@dataclass(frozen=True)
class Figure:
    """A drawn chart with its title, and a sentence below it."""

    group: str
    title: str
    svg: Markup
    caption: str


@dataclass(frozen=True)
class RuleView:
    """A rule: its words, its counts, the gates to show and those to fold away."""

    text: str
    counts: str
    shown: tuple[Gate, ...]
    folded: tuple[Gate, ...]


@dataclass(frozen=True)
class FlipView:
    """The changed answers of a variant: how they changed in a sentence, and the examples."""

    variant: str
    sentence: str
    flips: tuple[tuple[Flip, str], ...]


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
    class_views: tuple[classes.ClassView, ...]
    cost_table: tables.Table
    confidence: str
    glossary: tuple[tuple[str, str], ...]
    looks: Mapping[str, Look]
    figures: tuple[Figure, ...]
    flips: tuple[FlipView, ...]
    texts: tuple[texts.TextsView, ...]
    search_tables: tuple[search.SearchTable, ...]
    environment: tuple[tuple[str, str], ...]
    command: str

    def figures_of(self, group: str) -> list[Figure]:
        """The charts of one group."""
        return [figure for figure in self.figures if figure.group == group]


def to_html(runs: Sequence[Run]) -> str:
    """Return the page of one or several runs; runs of unlike machines are kept apart.

    Raises:
        InputError: a run's samples are damaged.
    """
    findings = [Findings(run.results) for run in runs]
    drawn, undrawn = _draw(runs, findings)
    views = [_view(f"r{index}", *each) for index, each in enumerate(zip(runs, findings, drawn, strict=True), 1)]
    script = (_TEMPLATES / "script.js").read_text(encoding="utf-8")
    page: str = (
        _environment()
        .get_template("page.html")
        .render(
            views=views,
            machines=_machines(views),
            undrawn=undrawn,
            style=Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8")),  # noqa: S704 - a file of ours
            script=Markup(script),  # noqa: S704 - a file of ours
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )
    return page


def _draw(runs: Sequence[Run], findings: Sequence[Findings]) -> tuple[list[list[Figure]], str]:
    """The figures of every run, all drawn by one child; where it fails none, and why."""
    drawing = Drawing()
    try:
        from .charts import charts_of

        charts = [charts_of(run, each) for run, each in zip(runs, findings, strict=True)]
        drawn = iter(drawing.draw([chart.spec for of_run in charts for chart in of_run]))
    except WorkerError as error:
        return [[] for _ in runs], f"This page has no charts: {error}."
    finally:
        drawing.close()
    figures = [
        [_figure(chart, next(drawn), f"r{number}-chart{index}") for index, chart in enumerate(of_run)]
        for number, of_run in enumerate(charts, 1)
    ]
    return figures, ""


def _figure(chart: "Chart", svg: str, identifier: str) -> Figure:
    return Figure(chart.group, chart.title, accessible(svg, identifier, chart.title, chart.description), chart.caption)


def _machines(views: Sequence[RunView]) -> list[tuple[str, list[RunView]]]:
    """The runs by the machine that they were made on, in the order of their first run."""
    groups: dict[str, list[RunView]] = {}
    for view in views:
        groups.setdefault(str(view.run.results.environment.get("machine", "")), []).append(view)
    return list(groups.items())


def _view(key: str, run: Run, findings: Findings, figures: Sequence[Figure]) -> RunView:
    results = run.results
    judged = [each for each in results.comparisons if each.metric == findings.speed and each.kind == "ratio"]
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
        class_views=tuple(classes.views(results)),
        cost_table=costs,
        confidence=tables.confidence(judged),
        glossary=tuple({column.title: column.help for column in columns}.items()),
        looks=looks(findings),
        figures=tuple(figures),
        flips=tuple(_flips(findings)),
        texts=tuple(texts.views(results)),
        search_tables=search.tables_of(results.search) if results.search else (),
        environment=tuple(_machine_facts(results.environment)),
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


def _flips(findings: Findings) -> Iterator[FlipView]:
    """The changed answers by variant, each said to be newly right, newly wrong or wrong otherwise."""
    groups: dict[str, list[Flip]] = {}
    for flip in findings.results.flips:
        groups.setdefault(flip.variant, []).append(flip)
    for variant, flips in groups.items():
        named = tuple((flip, _how(flip)) for flip in flips)
        kinds = [how for _, how in named]
        counted = ", ".join(f"{kinds.count(how)} {how}" for how in dict.fromkeys(kinds))
        total = _changed(findings, variant)
        shown = (
            f"the first {len(flips)} of {total} changed answers"
            if total > len(flips)
            else f"{len(flips)} changed answers"
        )
        yield FlipView(variant, f"{shown}: {counted}", named)


def _how(flip: Flip) -> str:
    if not flip.label:
        return "changed"
    if flip.prediction == flip.label:
        return "newly right"
    return "newly wrong" if flip.baseline_prediction == flip.label else "wrong otherwise"


def _changed(findings: Findings, variant: str) -> int:
    """How many answers of a variant differ from the baseline's, by its agreement; 0 where that was not measured."""
    found = findings.measurement(variant, "agreement", {})
    return round((1 - found.value) * found.n) if found and found.value is not None else 0


_FACTS = {
    "date": "Date",
    "commit": "Commit",
    "cpu": "Processor",
    "cores": "Cores",
    "instruction_sets": "Instruction sets",
    "memory_bytes": "Memory",
    "governor": "Frequency governor",
    "load_average": "Load average before",
    "system": "System",
    "architecture": "Architecture",
    "python": "Python",
}


def _machine_facts(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The environment as pairs of words, in a reader's order; what is empty is left out."""
    for key, name in _FACTS.items():
        value = environment.get(key)
        if value in (None, "", [], ()):
            continue
        if key == "memory_bytes":
            value = words.megabytes(float(str(value)))
        yield name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _weights(row: VariantRow) -> str:
    """Bytes of a variant's weights by data type: `int8 22.3 MB, fp32 0.600 MB`."""
    found = (row.audit or {}).get("weight_bytes", {})
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return ", ".join(f"{dtype} {words.megabytes(size)}" for dtype, size in ordered)


def _operators(row: VariantRow) -> str:
    """A variant's commonest operators: `MatMul 73, Add 61`."""
    found = sorted((row.audit or {}).get("nodes", {}).items(), key=lambda item: -item[1])
    more = f", and {len(found) - _OPERATORS} more types" if len(found) > _OPERATORS else ""
    return ", ".join(f"{name} {count}" for name, count in found[:_OPERATORS]) + more


_OPERATORS = 5


@functools.cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "weights": _weights,
        "operators": _operators,
        "shape": words.shape,
        "significant": words.significant,
        "moment": words.moment,
    }
    environment.globals |= {
        "STANDINGS": verdicts.STANDINGS,
        "title": words.title,
        "CLASSES_CAPTION": classes.CAPTION,
        "TEXTS_CAPTION": texts.CAPTION,
    }
    return environment
