"""`weighbridge build`: only the variants."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    config: Annotated[Path | None, typer.Argument(help="Config file.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the variants; default variants/.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be built; start nothing.")] = False,
) -> None:
    """Build the variants of a config into a folder each, with their manifests."""
    from ..config import find_config, load_config
    from ..running import Options, build_all, complete, new_run_folder, prepared_workload
    from .console import ConsoleReporter, standard_output
    from .planning import print_plan
    from .tables import print_built

    path = config or find_config(Path())
    options = Options(base=path.parent)
    chosen = complete(load_config(path), options)
    if plan:
        print_plan(chosen, options)
        return
    folder = new_run_folder(out or Path("variants"), chosen.workload.name)
    reporter = ConsoleReporter()
    with prepared_workload(chosen, options, reporter) as prepared:
        built = build_all(chosen, prepared, options, reporter)
        for made in built:
            if made.folder is not None:
                made.variant.copy_to(folder / made.name)
    print_built(built, folder, standard_output())
    raise typer.Exit(4 if any(made.status == "failed" for made in built) else 0)
