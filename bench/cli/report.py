"""`weighbridge report`: render one run again, several beside each other, or what pytest-benchmark saved."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from .gate import resolve


class Format(StrEnum):
    """What a report is written as."""

    HTML = "html"
    MD = "md"
    CSV = "csv"
    JSON = "json"
    JUNIT = "junit"


def command(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Run folders (`latest` is the newest under runs/), or JSON files that pytest-benchmark saved, of any project.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write; default: in the run folder, beside the JSON file, or (several) in this folder."
        ),
    ] = None,
    format: Annotated[Format, typer.Option(help="html, md, csv, json or junit.")] = Format.HTML,  # noqa: A002 - the option's name
) -> None:
    """Render a run again, or several runs beside each other, or what pytest-benchmark saved."""
    from .console import standard_output

    path = _rendered([resolve(each) for each in runs], out, format.value)
    standard_output().print(str(path), markup=False, soft_wrap=True)


def _rendered(
    places: list[Path],
    out: Path | None,
    format: Literal["html", "md", "csv", "json", "junit"],  # noqa: A002 - as above
) -> Path:
    from ...optimize.errors import ConfigError
    from ...reports import render, render_benchmarks, render_many

    files = [place for place in places if place.is_file()]
    if files and len(files) < len(places):
        folder = next(place for place in places if place not in files)
        raise ConfigError(
            f"{files[0]} is a file and {folder} a run folder; they have no page in common: render each kind by itself"
        )
    if files:
        return render_benchmarks(files, out, format)
    return render(places[0], out, format) if len(places) == 1 else render_many(places, out, format)
