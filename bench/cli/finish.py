"""The end of every command that weighs: run, render, print."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from ...reports import render
from ..config import Config
from ..reporter import Reporter
from ..results import Results
from ..running import Options, new_run_folder, resume, run
from .console import standard_output
from .interrupts import going_on_with
from .tables import print_results


def finish(config: Config, options: Options, reporter: Reporter) -> int:
    """Run a config, render its report, print the table and the verdicts; return the exit code."""
    folder = new_run_folder(options.out, config.workload.name)
    with going_on_with("weighbridge run", folder):
        return present(run(config, replace(options, out=folder), reporter), reporter)


def finish_interrupted(run_folder: Path, inconclusive: Literal["fail", "warn"] | None, reporter: Reporter) -> int:
    """Go on with an interrupted run, then end as every run does."""
    with going_on_with("weighbridge run", run_folder):
        return present(resume(run_folder, inconclusive, reporter), reporter)


def present(results: Results, reporter: Reporter) -> int:
    """Render the report of a run, print the table and the verdicts; return the exit code."""
    with reporter.stage("rendering the report"):
        path = render(results.folder, None, None)
    console = standard_output()
    print_results(results, console)
    console.print(f"report: {path}", markup=False, soft_wrap=True)
    return results.exit_code
