"""Run folders to files: one run or several, in the formats of `weighbridge report`."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

from ..bench.results import RESULTS, read_results
from ..optimize.errors import ConfigError, one_of
from ..optimize.files import write_text
from . import benchmarks_page
from .csv import csv_text, to_csv
from .junit import to_junit
from .markdown import to_markdown
from .run_folder import Run, read_run
from .saved_benchmarks import COLUMNS, SavedBenchmarks, benchmark_rows, read_benchmarks

Format = Literal["html", "md", "csv", "json", "junit", "all"]

_FILES = {"html": "report.html", "md": "summary.md", "csv": "results.csv", "json": RESULTS, "junit": "junit.xml"}


def render(run_folder: Path | str, out: Path | str | None = None, format: Format | None = "html") -> Path:  # noqa: A002 - the word of the command line
    """Render a run; return the file written (for several formats the page).

    Args:
        run_folder: what `weighbridge run` wrote.
        out: file to write; default: the format's own name in the run folder.
        format: html, md, csv, json or junit; None or "all": each of them under its own name in the run folder, where
            `out` is then the page's.

    Raises:
        InputError: the folder is no run's, or a file in it is damaged.
        ConfigError: an unknown format, or `out` is a folder.
    """
    folder = Path(run_folder)
    if format in (None, "all"):
        for each in ("md", "csv", "junit"):
            _write([read_run(folder)], folder / _FILES[each], each)
        return render(folder, out, "html")
    _check(format)
    path = Path(out) if out is not None else folder / _FILES[format]
    if format == "json" and out is None:
        read_results(folder)
        return path
    return _write([read_run(folder)], path, format)


def render_many(
    run_folders: Sequence[Path | str],
    out: Path | str | None = None,
    format: Format | None = "html",  # noqa: A002 - see render
) -> Path:
    """Render several runs beside each other in one file, in the order given; return it.

    The page gives each run its own verdict and keeps runs of unlike machines apart.

    Args:
        run_folders: what `weighbridge run` wrote, one or more.
        out: file to write; default: the format's own name in the current folder.
        format: html (also for None), md, csv, json (a list where there are several runs) or junit.

    Raises:
        InputError: a folder is no run's, or a file in it is damaged.
        ConfigError: no run, an unknown format, or `out` is a folder.
    """
    if not run_folders:
        raise ConfigError("no run was given; name at least one folder that `weighbridge run` wrote")
    format = format or "html"  # noqa: A001 - see render
    _check(format)
    path = Path(out) if out is not None else Path(_FILES[format])
    return _write([read_run(Path(folder)) for folder in run_folders], path, format)


def render_benchmarks(
    files: Sequence[Path | str],
    out: Path | str | None = None,
    format: Format | None = "html",  # noqa: A002 - see render
) -> Path:
    """Render what pytest-benchmark saved, of any project; return the file written.

    The page says that the samples were not interleaved, shows no ratio and judges nothing; files of unlike machines are kept apart.

    Args:
        files: JSON files that `pytest --benchmark-json` or `--benchmark-save` wrote, one or more.
        out: file to write; default: beside a single file, `<name>-report`; for several `benchmarks-report` in the current folder.
        format: html (also for None), md, csv or json (one row a benchmark).

    Raises:
        InputError: a file is damaged or none that pytest-benchmark wrote.
        ConfigError: no file, an unknown format, junit (nothing is judged), or `out` is a folder.
    """
    if not files:
        raise ConfigError("no file was given; name at least one that `pytest --benchmark-json` wrote")
    format = format or "html"  # noqa: A001 - see render
    _check(format)
    if format not in _BENCHMARK_RENDERERS:
        raise ConfigError(
            f"{files[0]} cannot be rendered as {format}: nothing in it is judged. Allowed: {', '.join(_BENCHMARK_RENDERERS)}"
        )
    found = tuple(read_benchmarks(Path(file)) for file in files)
    stem = found[0].path.with_suffix("") if len(found) == 1 else Path("benchmarks")
    path = Path(out) if out is not None else stem.with_name(f"{stem.name}-report{Path(_FILES[format]).suffix}")
    _need_file(path, format)
    return _written(_BENCHMARK_RENDERERS[format](found), path)


def _check(format: str | None) -> None:  # noqa: A002 - see render
    if format not in _FILES:
        raise ConfigError(one_of("format", str(format), get_args(Format)))


def _write(runs: Sequence[Run], path: Path, format: str) -> Path:  # noqa: A002 - see render
    _need_file(path, format)
    return _written(_RENDERERS[format](runs), path)


def _need_file(path: Path, format: str) -> None:  # noqa: A002 - see render
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give the name of a file to write, such as {path / _FILES[format]}")


def _written(text: str, path: Path) -> Path:
    """Write a text, in which half a surrogate pair of somebody's label becomes a question mark."""
    write_text(path, text.encode("utf-8", "replace").decode("utf-8"))
    return path


def _html(runs: Sequence[Run]) -> str:
    from .html import to_html

    return to_html(runs)


def _json(runs: Sequence[Run]) -> str:
    data = [run.results.to_dict() for run in runs]
    return json.dumps(data if len(data) > 1 else data[0], indent=2, allow_nan=False, ensure_ascii=False) + "\n"


_RENDERERS: dict[str, Callable[[Sequence[Run]], str]] = {
    "html": _html,
    "md": to_markdown,
    "csv": lambda runs: to_csv([run.results for run in runs]),
    "json": _json,
    "junit": lambda runs: to_junit([run.results for run in runs]),
}


_BENCHMARK_RENDERERS: dict[str, Callable[[tuple[SavedBenchmarks, ...]], str]] = {
    "html": benchmarks_page.to_html,
    "md": benchmarks_page.to_markdown,
    "csv": lambda files: csv_text(COLUMNS, benchmark_rows(files)),
    "json": lambda files: json.dumps(list(benchmark_rows(files)), indent=2, ensure_ascii=False) + "\n",
}
