"""Several runs beside each other: by date, within a machine, with what changed between them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from weighbridge.bench.results import write_results
from weighbridge.reports import beside, render_many
from weighbridge.reports.findings import Findings
from weighbridge.reports.run_folder import Run

Make = Callable[..., Any]


def dated(key: str, results: Any, day: int, versions: dict[str, str], data: str = "d") -> beside.Dated:
    environment = {
        "date": f"2026-11-{day}T08:00:00+00:00",
        "commit": f"c{day}",
        "machine": "one",
        "versions": versions,
    }
    results = dataclasses.replace(results, environment=environment)
    return beside.Dated(key, Run(Path(key), results, "", {"data": data}), Findings(results))


@pytest.fixture
def group(results_of: Make, candidate: Make) -> beside.Beside:
    """Two runs given the later first: in the later one a variant is new, one has failed, and ONNX Runtime is another."""
    later = results_of(candidate("int8", (0.25, 0.24, 0.26)), candidate("new"), candidate("gone", status="failed"))
    earlier = results_of(candidate("int8"), candidate("gone"))
    (found,) = beside.groups(
        [
            dated("r1", later, 25, {"onnxruntime": "1.32", "numpy": "2.4", "weighbridge": "0.2"}, data="e"),
            dated("r2", earlier, 24, {"onnxruntime": "1.31", "numpy": "2.4"}),
        ]
    )
    return found


def test_columns_are_in_the_order_of_their_dates(group: beside.Beside) -> None:
    """Runs stand from the oldest to the newest with commit and baseline, whatever order they were given in."""
    assert [(each.key, each.date, each.commit, each.baseline) for each in group.columns] == [
        ("r2", "24 Nov 2026, 08:00 UTC", "c24", "base"),
        ("r1", "25 Nov 2026, 08:00 UTC", "c25", "base"),
    ]


def test_what_changed_from_run_to_run_is_said(group: beside.Beside) -> None:
    """Versions that differ and other data are named; what stayed the same is not."""
    assert group.changes == (
        "24 Nov 2026, 08:00 UTC → 25 Nov 2026, 08:00 UTC: onnxruntime 1.31 → 1.32, weighbridge none → 0.2, other data",
    )


def test_cells_are_each_runs_own_ratio(group: beside.Beside) -> None:
    """A cell is the ratio to its run's baseline over the absolute time; a failed variant says so, a missing one nothing."""
    tables = {table.title: dict(table.rows) for table in group.tables}
    assert list(tables) == ["p50 latency, batch 1", "accuracy", "size"]
    speed = tables["p50 latency, batch 1"]
    assert [(cell.text, cell.detail) for cell in speed["int8"]] == [
        ("2.0x faster [1.7, 2.5]", "5.00 ms"),
        ("4.0x faster [3.8, 4.2]", "2.50 ms"),
    ]
    assert [cell.text for cell in speed["base"]] == ["10.0 ms", "10.0 ms"]
    assert [cell.text for cell in speed["gone"]] == ["2.0x faster [1.7, 2.5]", "failed"]
    assert [cell.text for cell in speed["new"]] == ["", "2.0x faster [1.7, 2.5]"]
    assert [cell.text for cell in tables["accuracy"]["new"]] == ["", "90.0 %"]
    assert [cell.text for cell in tables["size"]["base"]] == ["4.00 MB", "4.00 MB"]


def test_another_baseline_is_named(results_of: Make, candidate: Make) -> None:
    """Where the baseline changed, ratios are to another variant, and the page says to which."""
    first, second = results_of(candidate("x")), results_of(candidate("x"))
    renamed = tuple(dataclasses.replace(row, name="new-base") if row.baseline else row for row in second.variants)
    second = dataclasses.replace(second, variants=renamed)
    (found,) = beside.groups([dated("r1", first, 24, {}), dated("r2", second, 25, {})])
    assert found.changes[0].endswith(": baseline base → new-base")


def test_no_table_spans_two_machines_or_workloads(results_of: Make, candidate: Make, tmp_path: Path) -> None:
    """Of three runs the two of one machine stand beside each other; the third has its section, and no ratio crosses over."""
    folders = []
    for index, (machine, workload) in enumerate([("one", "intents"), ("two", "intents"), ("one", "intents")]):
        results = results_of(candidate("x"))
        environment = {**results.environment, "machine": machine, "date": f"2026-11-2{6 - index}T08:00:00+00:00"}
        folders.append(tmp_path / str(index))
        config = {"workload": {"name": workload}}
        write_results(dataclasses.replace(results, environment=environment, config=config), folders[-1])
    page = render_many(folders, tmp_path / "all.html").read_text(encoding="utf-8")
    assert page.count("2 runs beside each other</h3>") == 1
    section = page[page.index("Runs of intents beside each other") :].partition("</section>")[0]
    assert 'href="#r3"' in section
    assert 'href="#r1"' in section
    assert 'href="#r2"' not in section
    assert section.index('href="#r3"') < section.index('href="#r1"')


def test_runs_of_different_workloads_are_not_compared(results_of: Make, candidate: Make) -> None:
    """One run a workload leaves nothing to set beside it."""
    first, second = (
        dataclasses.replace(results_of(candidate("x")), config={"workload": {"name": name}}) for name in ("a", "b")
    )
    assert not list(beside.groups([dated("r1", first, 24, {}), dated("r2", second, 25, {})]))


def without(results: Any, metric: str, other: str = "") -> Any:
    """Results in which another metric, or none, was measured in the place of this one."""
    found = {}
    for part in ("measurements", "comparisons"):
        rows = (
            dataclasses.replace(each, metric=other) if each.metric == metric else each
            for each in getattr(results, part)
        )
        found[part] = tuple(each for each in rows if each.metric)
    return dataclasses.replace(results, **found)


def test_quality_that_only_a_later_run_measured_has_its_table(
    results_of: Make, candidate: Make, tmp_path: Path
) -> None:
    """A run without labels has empty cells beside one with them, and the page is written."""
    later = results_of(candidate("x"))
    runs = [dated("r1", without(later, "accuracy"), 24, {}), dated("r2", later, 25, {})]
    (found,) = beside.groups(runs)
    tables = {table.title: dict(table.rows) for table in found.tables}
    assert list(tables) == ["p50 latency, batch 1", "accuracy", "size"]
    assert [cell.text for cell in tables["accuracy"]["x"]] == ["", "90.0 %"]
    for each in runs:
        write_results(each.run.results, tmp_path / each.key)
    page = render_many([tmp_path / "r1", tmp_path / "r2"], tmp_path / "all.html").read_text(encoding="utf-8")
    assert "<caption>Accuracy</caption>" in page


def test_no_run_with_a_quality_has_no_table_of_it(results_of: Make, candidate: Make) -> None:
    """Where nothing was answered speed and size stand alone."""
    bare = without(results_of(candidate("x")), "accuracy")
    (found,) = beside.groups([dated("r1", bare, 24, {}), dated("r2", bare, 25, {})])
    assert [table.title for table in found.tables] == ["p50 latency, batch 1", "size"]


def test_a_table_holds_the_one_metric_that_it_names(results_of: Make, candidate: Make) -> None:
    """Runs whose main quality differs show that of the first, and nothing under it of a run that did not measure it."""
    first = results_of(candidate("x"))
    (found,) = beside.groups([dated("r1", first, 24, {}), dated("r2", without(first, "accuracy", "agreement"), 25, {})])
    tables = {table.title: dict(table.rows) for table in found.tables}
    assert list(tables) == ["p50 latency, batch 1", "accuracy", "size"]
    assert [cell.text for cell in tables["accuracy"]["x"]] == ["90.0 %", ""]


def test_a_speed_that_only_a_later_run_measured_is_called_by_its_name(results_of: Make, candidate: Make) -> None:
    """A run in which nothing was timed does not lend its name of a speed to the times of another."""
    later = without(results_of(candidate("x")), "latency_p50", "tpot")
    idle = without(later, "tpot")
    (found,) = beside.groups([dated("r1", idle, 24, {}), dated("r2", later, 25, {})])
    tables = {table.title: dict(table.rows) for table in found.tables}
    assert list(tables) == ["TPOT, batch 1", "accuracy", "size"]
    assert [cell.text for cell in tables["TPOT, batch 1"]["x"]] == ["", "2.0x faster [1.7, 2.5]"]
