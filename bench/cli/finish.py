"""The end of every command that weighs: run, render, print."""

from ...reports import render
from ..config import Config
from ..reporter import Reporter
from ..results import Results
from ..running import Options, run
from .console import standard_output
from .tables import print_results


def finish(config: Config, options: Options, reporter: Reporter) -> int:
    """Run a config, render its report, print the table and the verdicts; return the exit code."""
    return present(run(config, options, reporter), reporter)


def present(results: Results, reporter: Reporter) -> int:
    """Render the report of a run, print the table and the verdicts; return the exit code."""
    with reporter.stage("rendering the report"):
        path = render(results.folder, None, None)
    console = standard_output()
    print_results(results, console)
    console.print(f"report: {path}", markup=False, soft_wrap=True)
    return results.exit_code
