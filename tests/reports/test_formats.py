"""CSV, Markdown, JUnit and data frames of a run."""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import junitparser
import pytest
from weighbridge.bench.metrics import SHAPE_KEYS
from weighbridge.bench.results import Gate, read_results, write_results
from weighbridge.bench.samples import CONTROL
from weighbridge.bench.schema import validate
from weighbridge.optimize.errors import ConfigError, InputError
from weighbridge.reports import frames, render, render_many
from weighbridge.reports.markdown import escape

Make = Callable[..., Any]


def rendered(run: Path, tmp_path: Path, format: str) -> str:  # noqa: A002 - as in render
    return render(run, tmp_path / "out", format).read_bytes().decode()


def test_csv_has_a_row_for_everything(classifier_run: Path, tmp_path: Path) -> None:
    """Every measurement, comparison and control is one row, and numbers survive the way there and back."""
    results = read_results(classifier_run)
    found = list(csv.DictReader(io.StringIO(rendered(classifier_run, tmp_path, "csv"))))
    assert len(found) == len(results.measurements) + len(results.comparisons) + len(results.control)
    assert {row["record"] for row in found} == {"measurement", "ratio", "difference", "control"}
    first = next(row for row in found if row["metric"] == "latency_p50")
    source = next(each for each in results.measurements if each.metric == "latency_p50")
    assert (float(first["value"]), float(first["low"]), first["unit"]) == (source.value, source.low, "ms")
    assert (first["batch_size"], first["sequence_length"], first["slice"]) == ("1", "32", "")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_csv_cell_is_a_formula(results_of: Make, candidate: Make, tmp_path: Path, start: str) -> None:
    """Text that a spreadsheet would run is quoted; a negative number stays a number."""
    write_results(results_of(candidate(f"{start}1+1", accuracy=(-0.01, -0.02, 0.0))), tmp_path)
    text = rendered(tmp_path, tmp_path / "elsewhere", "csv")
    cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
    assert f"'{start}1+1" in cells
    assert "-0.01" in cells


def test_junit_has_a_case_a_rule(classifier_run: Path, tmp_path: Path) -> None:
    """Each gate is a case; a failed or open one is a failure of its verdict's type, a failed variant an error."""
    gates = read_results(classifier_run).gates
    suite = ET.fromstring(rendered(classifier_run, tmp_path, "junit")).find("testsuite")  # noqa: S314 - our own file
    assert suite is not None
    cases = suite.findall("testcase")
    assert len(cases) == len(gates) + 1 == int(suite.attrib["tests"])
    types = [failure.attrib["type"] for failure in suite.iter("failure")]
    assert sorted(types) == sorted(gate.verdict for gate in gates if gate.verdict != "pass")
    assert "inconclusive" in types
    assert int(suite.attrib["failures"]) == len(types)
    assert [error.attrib["message"] for error in suite.iter("error")] == [
        "agreement with the baseline 0.21, below the floor of 0.50: outputs are broken"
    ]


def test_junit_is_read_as_it_was_meant(results_of: Make, candidate: Make, tmp_path: Path) -> None:
    """junitparser finds a case a rule: passed, failed, undecided (a failure of its own type) and not evaluated (an error)."""
    write_results(results_of(candidate("x"), candidate("y", verdicts=("fail", "inconclusive"))), tmp_path)
    results = read_results(tmp_path)
    write_results(
        replace(results, gates=(*results.gates, replace(results.gates[0], verdict="not_evaluated"))), tmp_path
    )
    render(tmp_path, tmp_path / "junit.xml", "junit")
    (suite,) = junitparser.JUnitXml.fromfile(str(tmp_path / "junit.xml"))
    found = [
        (case.classname, case.is_passed, [(type(each).__name__, each.type) for each in case.result]) for case in suite
    ]
    assert found == [
        ("weighbridge.x", True, []),
        ("weighbridge.x", True, []),
        ("weighbridge.y", False, [("Failure", "fail")]),
        ("weighbridge.y", False, [("Failure", "inconclusive")]),
        ("weighbridge.x", False, [("Error", "not_evaluated")]),
    ]
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (5, 2, 1, 0)
    names = {case.name for case in suite}
    assert names == {
        "latency_p50 ratio at most 1.03x [batch_size=1 threads=1]",
        "accuracy difference at least -1 points",
    }


def test_junit_cases_of_near_limits_have_names_of_their_own(results_of: Make, candidate: Make, tmp_path: Path) -> None:
    """Two limits of one metric that differ in the fourth digit are two cases to whoever follows them by name."""
    results = results_of(candidate("x", verdicts=()))
    gates = tuple(Gate("accuracy", "value", {"min": limit}, "x", {}, "pass", "said") for limit in (0.9995, 0.9996))
    write_results(replace(results, gates=gates), tmp_path)
    suite = ET.fromstring(rendered(tmp_path, tmp_path / "elsewhere", "junit"))  # noqa: S314 - our own file
    assert [case.attrib["name"] for case in suite.iter("testcase")] == [
        "accuracy value at least 99.95 %",
        "accuracy value at least 99.96 %",
    ]


def test_junit_holds_any_text(results_of: Make, candidate: Make, tmp_path: Path) -> None:
    """Control characters, which XML cannot hold, and markup in a name still give a file that parses."""
    results = results_of(candidate("a\x00b\x1b<c>&\ud800"))
    (tmp_path / "results.json").write_text(json.dumps(results.to_dict()), encoding="utf-8")
    suite = ET.fromstring(rendered(tmp_path, tmp_path / "elsewhere", "junit"))  # noqa: S314 - our own file
    assert suite.find(".//testcase").attrib["classname"] == "weighbridge.a\ufffdb\ufffd<c>&\ufffd"  # type: ignore[union-attr]


def test_markdown_is_short_and_says_the_verdict_first(classifier_run: Path, tmp_path: Path) -> None:
    """The first line is the verdict; failures, tables of both shapes and reasons follow within 60 lines."""
    lines = rendered(classifier_run, tmp_path, "md").splitlines()
    assert len(lines) <= 60
    assert lines[0].startswith("### ✅ Ship ort-int8: 4.6x faster [")
    assert any(line.startswith("- **fail** ort-int8-static: accuracy") for line in lines)
    assert any(line.startswith("| batch 8, sequence 32 |") for line in lines)
    assert any(line.startswith("| tensorrt-fp16 | unavailable | tensorrt is not installed") for line in lines)


def test_markdown_tables_are_whole(classifier_run: Path, generator_run: Path, tmp_path: Path) -> None:
    """Every line of a table has the same number of cells, for one run and for several."""
    many = render_many([classifier_run, generator_run], tmp_path / "many.md", "md").read_text(encoding="utf-8")
    assert len(many.splitlines()) <= 60
    for text in (rendered(classifier_run, tmp_path, "md"), many):
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(cells) == 1


def test_markdown_of_many_variants_stays_short(results_of: Make, candidate: Make, tmp_path: Path) -> None:
    """With 40 candidates, each undecided, the summary still has at most 60 lines and says what it left out."""
    many = [candidate(f"v{index}", verdicts=("inconclusive", "fail")) for index in range(40)]
    write_results(results_of(*many, notices=("a notice",) * 40), tmp_path)
    text = rendered(tmp_path, tmp_path / "elsewhere", "md")
    assert len(text.splitlines()) <= 60
    assert "70 more in report.html" in text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", "a\\|b"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("`code` *bold* _it_ snake_case", "\\`code\\` \\*bold\\* \\_it\\_ snake_case"),
        ("[x](http://y) [4.4, 4.8]", "[x\\](http://y) [4.4, 4.8]"),
        ("line\nbreak", "line break"),
        ("@team at 2 @ 3", "@<!-- -->team at 2 @ 3"),
        ("see #12, # 3 and $x$", "see #<!-- -->12, # 3 and \\$x\\$"),
        ("# heading", "\\# heading"),
        ("## heading", "\\## heading"),
        ("1. item", "1\\. item"),
        ("- item - more -1", "\\- item - more -1"),
        ("+1.5 points", "+1.5 points"),
        ("\x1b[31mred\u202e\x00", "\ufffd[31mred\ufffd\ufffd"),
    ],
)
def test_markdown_text_stays_text(text: str, escaped: str) -> None:
    """No text of a user becomes markup, ends a cell or mentions a person."""
    assert escape(text) == escaped


def test_json_is_results_json(classifier_run: Path, generator_run: Path, tmp_path: Path) -> None:
    """The JSON format is the run's results.json, valid by the published schema; several runs are a list."""
    assert render(classifier_run, None, "json") == classifier_run / "results.json"
    one = json.loads(rendered(classifier_run, tmp_path, "json"))
    assert one == json.loads((classifier_run / "results.json").read_text(encoding="utf-8"))
    both = json.loads(render_many([classifier_run, generator_run], tmp_path / "both", "json").read_text("utf-8"))
    for data in both:
        validate(data)
    assert [each["config"]["workload"]["name"] for each in both] == ["docstrings", "gpt2-text"]


def test_frames_are_tidy(classifier_run: Path) -> None:
    """Frames have documented columns, one row an observation, and the numbers of results.json."""
    results = read_results(classifier_run)
    measurements, comparisons = frames.measurements(classifier_run), frames.comparisons(classifier_run)
    assert list(measurements.columns[:3]) == ["variant", "metric", "unit"]
    assert set(SHAPE_KEYS) < set(measurements.columns)
    assert len(measurements) == len(results.measurements)
    assert measurements["value"].notna().all()
    assert set(comparisons["kind"]) == {"ratio", "difference", "control"}
    assert set(comparisons.loc[comparisons["kind"] == "control", "variant"]) == {CONTROL}
    gates = frames.gates(classifier_run)
    assert gates["verdict"].value_counts().to_dict() == {"pass": 18, "inconclusive": 1, "fail": 1}
    assert gates.loc[gates["metric"] == "accuracy", "min"].unique().tolist() == [-0.01]


def test_frames_of_variants_and_answers(classifier_run: Path) -> None:
    """Variants with their sizes, recalls, confusions and reliability come as they stand in results.json, with no column more."""
    results = read_results(classifier_run)
    variants = frames.variants(classifier_run).set_index("variant")
    assert variants.loc["ort-int8", "bytes"] == 22_900_431
    assert variants["status"].value_counts().to_dict() == {"ok": 7, "unavailable": 1, "failed": 1}
    assert list(frames.class_recalls(classifier_run).columns) == [
        *("variant", "class_name", "n", "baseline", "candidate", "difference", "low", "high"),
    ]
    confusions = frames.confusions(classifier_run)
    wrong = confusions[confusions["variant"] == "torch-fp32"]["n"].sum()
    accuracy = next(each for each in results.measurements if (each.variant, each.metric) == ("torch-fp32", "accuracy"))
    assert wrong == round((1 - (accuracy.value or 0)) * accuracy.n)
    reliability = frames.reliability(classifier_run)
    assert reliability.groupby("variant")["n"].sum().unique().tolist() == [3000]
    assert reliability["confidence"].between(reliability["low"], reliability["high"]).all()


def test_the_frame_of_samples_has_every_sample(generator_run: Path) -> None:
    """Raw samples come back with their shape spread over columns: six replicates of ten rounds of five contenders."""
    samples = frames.samples(generator_run)
    assert samples["phase"].value_counts().to_dict() == {"decode": 2400, "prefill": 300, "settle": 300}
    assert samples["prompt_length"].unique().tolist() == [32]
    assert samples["sequence_length"].isna().all()
    assert samples.columns[-1] == "milliseconds"


def test_all_formats_at_once(results_of: Make, candidate: Make, tmp_path: Path) -> None:
    """Without a format the folder gets its page, table, summary and JUnit file; the page's path is returned."""
    write_results(results_of(candidate("x")), tmp_path)
    assert render(tmp_path, None, None) == tmp_path / "report.html"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"results.json", "report.html", "results.csv", "summary.md", "junit.xml"}


def test_an_unknown_format_is_refused(classifier_run: Path) -> None:
    """A format with a typo is an error that names the nearest."""
    with pytest.raises(ConfigError, match="unknown format 'htm'; did you mean 'html'"):
        render(classifier_run, None, "htm")  # type: ignore[arg-type]


def test_a_folder_is_no_file(classifier_run: Path, tmp_path: Path) -> None:
    """A folder given as the file to write is refused with an example of what to give."""
    with pytest.raises(ConfigError, match=r"is a folder; give the name of a file to write, such as .*report\.html"):
        render(classifier_run, tmp_path, "html")


def test_no_run_is_an_error() -> None:
    """Nothing to render is said so."""
    with pytest.raises(ConfigError, match="no run was given"):
        render_many([])


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    """A folder without results.json is refused, and nothing is written into it."""
    with pytest.raises(InputError, match=r"is not a run folder: it has no results\.json"):
        render(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", ["journal.jsonl", "variants/x/manifest.json"])
def test_a_damaged_raw_file_is_named(results_of: Make, candidate: Make, tmp_path: Path, file: str) -> None:
    """A raw file that is not JSON is an input error that names it."""
    write_results(results_of(candidate("x")), tmp_path)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text('{"event": "prepared", cut', encoding="utf-8")
    with pytest.raises(InputError, match=f"{Path(file).name} is not JSON"):
        render(tmp_path, tmp_path / "out.csv", "csv")
