"""`weighbridge search`: sensitivity and rollback search."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..config import Config
    from ..reporter import Reporter
    from ..results import Results
    from ..search_config import Wanted

MAX_DROP, MAX_SECONDS = 0.01, 600.0


def command(
    config: Annotated[Path | None, typer.Argument(help="Config file.", show_default=False)] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help=f"Accuracy that may be lost, as a fraction (of a generator, the share by which perplexity may grow); default {MAX_DROP}.",
        ),
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            min=1, help=f"Time for all trials, builds included; default {MAX_SECONDS:g}. The judging run comes on top."
        ),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(help="The variant whose layers are tried; default: the first INT8 or INT4 one of ONNX Runtime."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/<date>-<name>.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Run folder of an interrupted search to go on with.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be done; start nothing.")] = False,
) -> None:
    """Search for the lightest quantized variant that keeps its quality; the exit code is the verdict on it.

    Each layer is tried in float alone, then layers are returned to float until the budget is kept, all on one half of the
    evaluation data. The outcome is weighed and judged on the other half.
    """
    from ...optimize.errors import ConfigError
    from ..config import find_config, load_config
    from ..running import Options, complete, new_run_folder
    from ..search import resume as go_on
    from ..search import search
    from ..search_config import Wanted
    from .console import ConsoleReporter, standard_output
    from .interrupts import going_on_with

    reporter = ConsoleReporter()
    if resume is not None:
        if config is not None or max_drop is not None or variant is not None or out is not None or plan:
            raise ConfigError("--resume goes on with what was asked for: give it alone, or with another --max-seconds")
        with going_on_with("weighbridge search", resume):
            raise typer.Exit(_finish(go_on(resume, max_seconds, reporter=reporter), reporter))
    wanted = Wanted(MAX_DROP if max_drop is None else max_drop, max_seconds or MAX_SECONDS, variant)
    path = config or find_config(Path())
    options = Options(out=out, base=path.parent)
    chosen = load_config(path)
    if plan:
        for sentence in _planned(complete(chosen, options), wanted):
            standard_output().print(sentence, markup=False)
        return
    folder = new_run_folder(out, chosen.workload.name)
    with going_on_with("weighbridge search", folder):
        raise typer.Exit(_finish(search(chosen, wanted, replace(options, out=folder), reporter), reporter))


def _finish(results: "Results", reporter: "Reporter") -> int:
    """Print what the search tried, then end as every run does."""
    from rich.table import Table
    from rich.text import Text

    from ...reports.search import tables_of
    from .console import standard_output
    from .finish import present

    for table in tables_of(results.search) if results.search else ():
        shown = Table(title=table.title, title_justify="left")
        for column in table.columns:
            shown.add_column(f"{column.title}\n{column.unit}", overflow="fold")
        for row in table.rows:
            shown.add_row(*(Text("\n".join(filter(None, (cell.text, cell.detail)))) for cell in row))
        standard_output().print(shown)
    return present(results, reporter)


def _planned(config: "Config", wanted: "Wanted") -> Iterator[str]:
    """What would be done, in sentences."""
    from ..running import kind_of
    from ..search import most_weighed
    from ..search_config import searched_variant

    searched = searched_variant(config, wanted.variant)
    measure, drop, baseline = config.measure, 100 * wanted.max_drop, config.baseline.name
    budget = f"accuracy is at most {drop:g} points below {baseline}'s"
    if kind_of(config) == "decoder":
        budget = f"perplexity is at most {drop:g} % above {baseline}'s"
    yield (
        f"The layers of {searched.name} would be tried in float one by one, then together until its {budget}: "
        f"at most {wanted.max_seconds:g} s of trials."
    )
    yield (
        f"Then a run on the half of the evaluation data that was not chosen on: at most {most_weighed()} variants, "
        f"{measure.max_seconds:g} s of sampling. Estimated time: at most {(wanted.max_seconds + 2 * measure.max_seconds) / 60:.0f} minutes."
    )
