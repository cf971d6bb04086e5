"""What pytest-benchmark saved, of any project: read strictly, rendered with its warning, never judged."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge.optimize.errors import ConfigError, InputError
from weighbridge.reports import render_benchmarks
from weighbridge.reports.benchmarks_page import FileView, _medians, _view, curves
from weighbridge.reports.looks import look
from weighbridge.reports.saved_benchmarks import in_words, read_benchmarks

HOSTILE = "<script>alert('x')</script>"
Save = Callable[..., Path]


def benchmark(name: str, median: float, group: str | None = None, **stats: Any) -> dict[str, Any]:
    """A benchmark as pytest-benchmark 5 writes it, times in seconds."""
    known = {"min": 0.9 * median, "max": 2 * median, "mean": 1.1 * median, "stddev": 0.1 * median, "median": median}
    known |= {"iqr": 0.2 * median, "rounds": 200, "iterations": 1, "ops": 1 / median, "outliers": "1;2"}
    return {"group": group, "name": name, "fullname": f"test.py::{name}", "extra_info": {}, "stats": {**known, **stats}}


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write a file of pytest-benchmark: (name, *benchmarks, further parts) -> path."""

    def write(name: str, *benchmarks: dict[str, Any], **parts: Any) -> Path:
        saved = {
            "machine_info": {"machine": "x86_64", "system": "Linux", "cpu": {"brand_raw": "AMD EPYC", "count": 2}},
            "commit_info": {"id": "0123456789abcdef", "project": "theirs", "dirty": True},
            "benchmarks": list(benchmarks),
            "datetime": "2026-11-24T14:10:00+00:00",
            "version": "5.3.0",
        }
        path = tmp_path / name
        path.write_text(json.dumps({**saved, **parts}), encoding="utf-8")
        return path

    return write


def test_a_file_of_today_is_read(save: Save) -> None:
    """Machine, commit, groups and statistics are the file's own, whether the raw data were saved or not."""
    found = read_benchmarks(
        save("a.json", benchmark("sort", 2e-3, "lists", data=[1e-3, 2e-3, 3e-3]), benchmark("sum", 3e-7))
    )
    assert (found.machine, found.commit, found.project) == (
        "AMD EPYC x2 x86_64 Linux",
        "0123456789ab with changes",
        "theirs",
    )
    assert {name: [each.name for each in group] for name, group in found.groups.items()} == {
        "lists": ["sort"],
        "": ["sum"],
    }
    assert (found.benchmarks[0].stats.data, found.benchmarks[1].stats.data) == ((1e-3, 2e-3, 3e-3), ())
    assert list(curves(found)) == ["lists"]


def test_a_file_of_an_old_version_is_read(save: Save) -> None:
    """Files before 4 name the processor otherwise and may lack commit, group and date; NaN in a project's own extras is no harm."""
    old = benchmark("sort", 2e-3)
    del old["group"]
    old["extra_info"] = {"loss": float("nan")}
    found = read_benchmarks(
        save(
            "old.json",
            old,
            version="3.1.1",
            datetime=None,
            commit_info={"id": "unversioned"},
            machine_info={"cpu": {"brand": "Intel Core", "count": 4}, "machine": "x86_64"},
        )
    )
    assert (found.machine, found.commit, found.project, found.date) == ("Intel Core x4 x86_64", "", "", "")


def test_a_file_that_pytest_benchmark_writes_here_is_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real file of the installed release gives a page with its rows, its distribution and the warning."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # in such a worker pytest-benchmark saves nothing
    (tmp_path / "test_it.py").write_text(
        "def test_sort(benchmark):\n    benchmark.pedantic(sorted, args=([3, 1, 2],), rounds=30)\n", encoding="utf-8"
    )
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--benchmark-json", "saved.json"]
    subprocess.run([*command, "test_it.py"], cwd=tmp_path, check=True, capture_output=True)
    path = render_benchmarks([tmp_path / "saved.json"])
    assert path == tmp_path / "saved-report.html"
    page = path.read_text(encoding="utf-8")
    assert "test_sort" in page
    assert "These samples were not interleaved" in page
    assert page.count('<svg xmlns="http://www.w3.org/2000/svg" class="chart"') == 1
    assert "30 rounds" in page


def test_the_page_warns_and_judges_nothing(save: Save) -> None:
    """The warning stands on top, names stay text, groups have tables, and no benchmark is called faster than another."""
    path = render_benchmarks(
        [save("a.json", benchmark(HOSTILE, 2e-3, HOSTILE), benchmark("sum", 3e-7, iterations=5), weighbridge=None)]
    )
    page = path.read_text(encoding="utf-8")
    assert "These samples were not interleaved" in page
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    assert "2.00 ms" in page
    assert "300 ns" in page
    assert "of 5 iterations" in page
    assert "faster" not in page
    assert 'class="chart"' not in page


def test_rows_of_our_own_harness_are_told_apart(save: Save) -> None:
    """Where Weighbridge's harness wrote the session facts the warning does not call its rows not interleaved."""
    assert (
        "harness in this file were interleaved"
        in read_benchmarks(save("a.json", benchmark("x", 1.0), weighbridge={})).warning
    )


def named(fullname: str, median: float, **stats: Any) -> dict[str, Any]:
    """A benchmark of a module: `a.py::sort`."""
    return {**benchmark(fullname.partition("::")[2], median, **stats), "fullname": fullname}


def test_equal_names_of_two_modules_are_told_apart(save: Save) -> None:
    """Benchmarks of one name stand under their full ones, in the rows of every format; a name of its own stays short."""
    path = save("a.json", named("a.py::sort", 2e-3), named("b.py::sort", 3e-3), named("b.py::sum", 1e-3))
    names = ["a.py::sort", "b.py::sort", "sum"]
    assert [each.name for each in read_benchmarks(path).benchmarks] == names
    rows = json.loads(render_benchmarks([path], path.with_name("rows.json"), "json").read_text(encoding="utf-8"))
    assert [(row["name"], row["median_ms"]) for row in rows] == list(zip(names, (2.0, 3.0, 1.0), strict=True))


def test_every_curve_has_the_look_of_its_row(save: Save) -> None:
    """Rows have the looks of the curves in the order drawn, by their place: without full names two may be called alike."""
    data = {"data": [1e-3, 2e-3, 3e-3]}
    file = save("a.json", named("a.py::sort", 2e-3, **data), benchmark("sum", 1e-3), named("b.py::sort", 3e-3, **data))
    nameless = read_benchmarks(file)
    nameless = replace(nameless, benchmarks=tuple(replace(each, name="sort") for each in nameless.benchmarks))
    (group,) = _view("r1", nameless, []).groups
    assert [(row.name, row.look) for row in group.rows] == [("sort", look(0)), ("sort", None), ("sort", look(1))]


def test_benchmarks_of_two_files_are_compared_by_their_full_names(save: Save) -> None:
    """The same benchmark is one row, whatever else has its name; one of another module with that name is another row."""
    first, second, third = (
        _view(key, read_benchmarks(save(f"{key}.json", *benchmarks)), [])
        for key, benchmarks in {
            "r1": [named("a.py::sort", 2e-3), named("a.py::sum", 1e-3)],
            "r2": [named("b.py::sort", 3e-3), named("a.py::sum", 1e-3)],
            "r3": [named("a.py::sort", 4e-3), named("b.py::sort", 5e-3)],
        }.items()
    )

    def texts(*views: FileView) -> dict[str, list[str]]:
        return {name: [cell.text for cell in cells] for name, cells in _medians(views, "")}

    assert texts(first, second) == {
        "a.py::sort": ["2.00 ms", ""], "sum": ["1.00 ms", "1.00 ms"], "b.py::sort": ["", "3.00 ms"],
    }  # fmt: skip
    assert texts(first, third) == {
        "a.py::sort": ["2.00 ms", "4.00 ms"], "sum": ["1.00 ms", ""], "b.py::sort": ["", "5.00 ms"],
    }  # fmt: skip
    assert texts(third, first) == {
        "a.py::sort": ["4.00 ms", "2.00 ms"], "b.py::sort": ["5.00 ms", ""], "sum": ["", "1.00 ms"],
    }  # fmt: skip


def test_several_files_stand_by_date_within_a_machine(save: Save) -> None:
    """Two files of one machine stand beside each other, the older first; one of another machine is kept apart."""
    other = {"cpu": {"brand_raw": "Apple M1", "count": 8}, "machine": "arm64"}
    files = [
        save("new.json", benchmark("x", 2e-3), benchmark("y", 1e-3), datetime="2026-11-25T08:00:00"),
        save("old.json", benchmark("x", 3e-3), datetime="2026-11-24T08:00:00"),
        save("far.json", benchmark("x", 7e-3), machine_info=other),
    ]
    page = render_benchmarks(files, files[0].with_name("all.html")).read_text(encoding="utf-8")
    assert "These files come from 2 machines." in page
    section = page[page.index("theirs: 2 runs beside each other") :].partition("</section>")[0]
    assert section.index("24 Nov 2026") < section.index("25 Nov 2026")
    assert section.index("3.00 ms") < section.index("2.00 ms")
    assert "7.00 ms" not in section
    assert page.index("Machine: AMD EPYC") < page.index("Machine: Apple M1") < page.index("far.json")


def test_rows_as_csv_and_json(save: Save) -> None:
    """One row a benchmark with times in milliseconds, alike in both formats; no cell is a formula."""
    path = save("a.json", benchmark("=1+1", 2e-3, "g"))
    (row,) = json.loads(render_benchmarks([path], path.with_name("rows.json"), "json").read_text(encoding="utf-8"))
    text = render_benchmarks([path], None, "csv").read_bytes().decode()
    (cells,) = csv.DictReader(io.StringIO(text))
    assert (row["name"], row["group"], row["median_ms"], row["rounds"]) == ("=1+1", "g", 2.0, 200)
    assert (cells["name"], float(cells["median_ms"]), list(cells)) == ("'=1+1", 2.0, list(row))
    assert (path.parent / "a-report.csv").is_file()


def test_several_files_are_written_into_the_current_folder(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a name the file of several is `benchmarks-report`, so that no run's results.json is written over."""
    path = save("a.json", benchmark("x", 2e-3))
    monkeypatch.chdir(path.parent)
    assert render_benchmarks([path, path], None, "json") == Path("benchmarks-report.json")
    assert len(json.loads(Path("benchmarks-report.json").read_text(encoding="utf-8"))) == 2


def test_the_summary_is_short(save: Save) -> None:
    """Of a hundred benchmarks in each of two files the summary lists some, counts the rest, and has at most 60 lines."""
    many = [benchmark(f"x{number}|", 1e-3) for number in range(100)]
    files = [save("a.json", *many), save("b.json", *many)]
    text = render_benchmarks(files, files[0].with_name("s.md"), "md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    assert text.count("| 80 more |") == 2
    assert "| x0\\| | 1.00 ms | 200 µs | 1.10 ms | 200 |" in text
    assert text.count("were not interleaved") == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "dictionary or an instance"),
        ("{}", "benchmarks: Field required"),
        ('{"benchmarks": []}', "every one failed or was skipped"),
        ('{"benchmarks": [{"name": "x", "stats": {}}]}', "benchmarks.0.stats.min: Field required"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str, reason: str) -> None:
    """What pytest-benchmark did not write is refused with the file, the reason and what to give instead."""
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(
        InputError, match=rf"a\.json cannot be read as what pytest-benchmark saves \(.*{reason}"
    ) as raised:
        read_benchmarks(path)
    assert "pytest --benchmark-json" in str(raised.value)


@pytest.mark.parametrize(
    ("stats", "reason"),
    [
        ({"min": -1.0}, "negative, not finite or of thirty years"),
        ({"max": 1e300}, "negative, not finite or of thirty years"),
        ({"data": [1.0, -2.0]}, "negative, not finite or of thirty years"),
        ({"mean": float("nan")}, "stats.mean: Input should be a valid number"),
        ({"rounds": 0}, "no rounds or no iterations"),
    ],
)
def test_times_that_cannot_be_are_refused(save: Save, stats: dict[str, Any], reason: str) -> None:
    """A time that is none, or a benchmark without rounds, is an input error that names it."""
    with pytest.raises(InputError, match=reason):
        read_benchmarks(save("a.json", benchmark("x", 1.0, **stats)))


def test_a_file_that_is_missing_or_a_runs_own(tmp_path: Path) -> None:
    """A missing file is an input error; for a run's results.json the folder is asked for."""
    with pytest.raises(InputError, match="No such file"):
        read_benchmarks(tmp_path / "none.json")
    with pytest.raises(InputError, match=r"results\.json is a run's own file; give its folder instead"):
        read_benchmarks(tmp_path / "results.json")


def test_what_cannot_be_rendered_is_refused(save: Save, tmp_path: Path) -> None:
    """JUnit has nothing to tell of what is not judged; no file, an unknown format and a folder are refused too."""
    path = save("a.json", benchmark("x", 1.0))
    with pytest.raises(
        ConfigError, match="cannot be rendered as junit: nothing in it is judged. Allowed: html, md, csv, json"
    ):
        render_benchmarks([path], None, "junit")
    with pytest.raises(ConfigError, match="no file was given"):
        render_benchmarks([])
    with pytest.raises(ConfigError, match="unknown format 'pdf'"):
        render_benchmarks([path], None, "pdf")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="is a folder; give the name of a file"):
        render_benchmarks([path], tmp_path)


@given(st.floats(1e-12, 1e8))
def test_times_of_any_size_are_in_a_fitting_unit(seconds: float) -> None:
    """What is printed is the time within half a unit of its third digit, from picoseconds to years."""
    value, unit = in_words(seconds).split()
    scale = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}[unit]
    assert float(value.replace(",", "")) * scale == pytest.approx(seconds, rel=0.0051)
