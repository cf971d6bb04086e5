"""`weighbridge gate`: judge a finished run again, by its own rules or by others."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .run import Inconclusive

if TYPE_CHECKING:
    from ..results import Results


class Format(StrEnum):
    """How verdicts are printed."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


def resolve(run: Path) -> Path:
    """The run folder that was meant; `latest` is the newest under runs/.

    Raises:
        InputError: there is none.
    """
    from ...optimize.errors import InputError

    if str(run) != "latest" or run.exists():
        return run
    folders = [path.parent for path in Path("runs").glob("*/journal.jsonl")]
    if not folders:
        raise InputError("latest: there is no run under runs/ in this folder; give the run's folder")
    return max(folders, key=lambda folder: (folder / "journal.jsonl").stat().st_mtime)


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder; `latest` is the newest under runs/.")],
    rules: Annotated[
        Path | None, typer.Option(help="TOML file with a [gates] table, instead of the run's own rules.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="A saved run: judge each variant against the one of the same name there.")
    ] = None,
    unlike_machines: Annotated[
        bool, typer.Option("--unlike-machines", help="Compare with a run of another machine all the same, marked.")
    ] = False,
    format: Annotated[Format, typer.Option(help="text, json or github.")] = Format.TEXT,  # noqa: A002 - the option's name
    inconclusive: Annotated[
        Inconclusive, typer.Option(help="Whether an undecided rule fails (exit 3) or warns.")
    ] = Inconclusive.FAIL,
) -> None:
    """Judge a finished run again; the exit code is the verdict."""
    from ...reports import render
    from ..across import judged_against
    from ..derive import derive
    from ..results import write_results
    from ..rules_file import read_rules

    folder = resolve(run)
    gates = read_rules(rules) if rules else None
    results = derive(folder, gates=gates, inconclusive=inconclusive.value)
    if baseline is not None:
        saved = resolve(baseline)
        results = judged_against(results, saved, gates, inconclusive.value, unlike_machines=unlike_machines)
    write_results(results, folder)
    render(folder, None, None)
    _print(results, format)
    raise typer.Exit(results.exit_code)


def _print(results: "Results", form: Format) -> None:
    """Print the verdicts; on GitHub also add the run's summary to that of the step."""
    from ...reports import render
    from .console import plain, standard_output
    from .github import add_to_summary, annotations
    from .tables import print_gates

    if form is Format.JSON:
        typer.echo(json.dumps(_verdicts(results), indent=2))
    elif form is Format.GITHUB:
        for line in annotations(results):
            typer.echo(plain(line))
        add_to_summary(render(results.folder, None, "md"))
    else:
        print_gates(results, standard_output())


def _verdicts(results: "Results") -> dict[str, object]:
    """What decided the exit code: the verdicts, and the variants that are not ok."""
    from dataclasses import asdict

    broken = [row for row in results.variants if row.status != "ok"]
    return {
        "exit_code": results.exit_code,
        "gates": [asdict(gate) for gate in results.gates],
        "variants": [{"name": row.name, "status": row.status, "reason": row.reason} for row in broken],
    }
