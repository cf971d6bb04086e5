"""`weighbridge report`: render one run again, or several beside each other."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """What a report is written as."""

    HTML = "html"
    MD = "md"
    CSV = "csv"
    JSON = "json"
    JUNIT = "junit"


def command(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders; `latest` is the newest under runs/.")
    ],
    out: Annotated[Path | None, typer.Option(help="File to write; default: in the run folder.")] = None,
    format: Annotated[Format, typer.Option(help="html, md, csv, json or junit.")] = Format.HTML,  # noqa: A002 - the option's name
) -> None:
    """Render a run again, or several runs beside each other."""
    from ...reports import render, render_many
    from ..results import read_results
    from .console import standard_output
    from .gate import resolve

    folders = [resolve(each) for each in runs]
    for folder in folders:
        read_results(folder)
    path = render(folders[0], out, format.value) if len(folders) == 1 else render_many(folders, out, format.value)
    standard_output().print(str(path), markup=False, soft_wrap=True)
