"""The page: self-contained, escaped, in the promised order."""

import base64
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from weighbridge import reports
from weighbridge.bench.predictions import read_class_predictions
from weighbridge.bench.results import (
    ClassRecall,
    Comparison,
    Confusion,
    Flip,
    Measurement,
    ReliabilityBin,
    read_results,
    write_results,
)
from weighbridge.optimize.errors import InputError, WorkerError
from weighbridge.reports import render, render_many
from weighbridge.reports.findings import Findings
from weighbridge.reports.svg import Drawing, accessible
from weighbridge.reports.words import significant

Make = Callable[..., Any]
HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
VOID = {"meta", "link", "input", "br", "img"}


class Page(HTMLParser):
    """Collects the tags of a page, its text, and whether every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.balanced = not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if self._open.pop() != tag:
            self._open.append(f"{tag} closed out of order")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="session")
def page(classifier_run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the classifier run."""
    return render(classifier_run, tmp_path_factory.mktemp("page") / "report.html").read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_small(page: str) -> None:
    """Every element is closed in order, ids are unique, links lead somewhere, and it is far below a megabyte."""
    found = Page(page)
    assert found.balanced
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(link["href"])[1:] for link in found.named("a")} <= set(ids)
    assert len(page) < 500_000


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    """No element refers to another file, and the policy forbids network, eval and any script but the page's own."""
    found = Page(page)
    for _, attributes in found.tags:
        assert "src" not in attributes
        assert str(attributes.get("href", "#")).startswith(("#", "data:"))
    (policy,) = (meta["content"] for meta in found.named("meta") if meta.get("http-equiv"))
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert len(found.named("script")) == 1
    assert not re.search(r"@import|url\(", page)


def test_the_page_keeps_its_order(page: str) -> None:
    """Verdict, rules, comparison, charts, answers by class and slice, audit, environment, notices, how to reproduce."""
    headings = re.findall(r"<h[23][^>]*>([^<]+)", page)
    assert headings[0].startswith("Ship ort-int8: 4.6x faster [")
    assert headings[1:] == [
        "Rules",
        "Comparison",
        "Quality",
        "Quality against speed",
        "Latency distributions",
        "Replicates and control",
        "Throughput against batch size",
        "Confusions",
        "Recall by class",
        "Slices",
        "Reliability",
        "Changed answers",
        "Audit and parity",
        "Environment",
        "Notices",
        "How to reproduce",
    ]


def test_every_sentence_and_reason_is_there(page: str, classifier_run: Path) -> None:
    """Each verdict's sentence, each reason, note and notice stands on the page."""
    results = read_results(classifier_run)
    text = " ".join(Page(page).text.split())
    for said in (
        *(gate.sentence for gate in results.gates),
        *(row.reason or row.note for row in results.variants),
        *results.notices,
    ):
        assert said in text


def test_charts_are_images_with_names(page: str, classifier_run: Path) -> None:
    """Each chart has a role, a title and a description in words; the two shapes have one each, reliability has one."""
    charts = [svg for svg in Page(page).named("svg") if svg.get("class") == "chart"]
    assert len(charts) == 2 + 2 + 2 + 1 + 1
    for chart in charts:
        assert chart["role"] == "img"
        name, told = str(chart["aria-labelledby"]).split()
        assert f'<title id="{name}">' in page
        assert f'<desc id="{told}">' in page
    assert "On the Pareto front: ort-pruned" in page
    answers = read_class_predictions(classifier_run)["torch-fp32"]
    confidence, accuracy = 100 * answers.scores.max(axis=1).mean(), 100 * answers.correct.mean()
    assert f"torch-fp32: mean confidence {confidence:.1f} %, accuracy {accuracy:.1f} %" in page


def test_tables_have_scopes_and_captions(page: str) -> None:
    """Every heading cell says what it heads, and every table outside a folded list has a caption."""
    found = Page(page)
    assert all(cell.get("scope") in ("col", "row") for cell in found.named("th"))
    assert len(found.named("caption")) >= 4


def test_hostile_text_stays_text(results_of: Make, candidate: Make, tmp_path: Path) -> None:
    """Markup in names, reasons, notices, labels, texts, config and environment is shown, never run."""
    results = results_of(candidate(HOSTILE), candidate("gone", status="failed"), notices=(HOSTILE,), exit_code=4)
    flips = (Flip(HOSTILE, 1, HOSTILE, HOSTILE, HOSTILE, HOSTILE),)
    environment = {**results.environment, "cpu": HOSTILE, "machine": HOSTILE, "versions": {HOSTILE: HOSTILE}}
    config = {"workload": {"name": HOSTILE}}
    write_results(replace(results, flips=flips, environment=environment, config=config), tmp_path)
    (tmp_path / "config.toml").write_text(HOSTILE, encoding="utf-8")
    text = render(tmp_path).read_text(encoding="utf-8")
    found = Page(text)
    assert found.balanced
    assert len(found.named("script")) == 1
    assert not found.named("img")
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert "<script>alert('x')</script>" in found.text


def test_a_run_of_results_alone_renders(results_of: Make, candidate: Make, tmp_path: Path) -> None:
    """With nothing but results.json the page still has verdict, tables and the charts that the results allow."""
    write_results(results_of(candidate("x", verdicts=())), tmp_path)
    text = render(tmp_path).read_text(encoding="utf-8")
    assert "Nothing was judged: the config has no rules and no preset." in text
    assert "Accuracy against p50 latency" in text
    assert "Latency distributions" not in text


def test_nothing_measured_still_renders(results_of: Make, candidate: Make, tmp_path: Path) -> None:
    """Where the baseline failed there is no measurement, and the page says why."""
    results = results_of(candidate("gone", status="failed"), status="failed", exit_code=4)
    write_results(replace(results, measurements=()), tmp_path)
    found = Page(render(tmp_path).read_text(encoding="utf-8"))
    assert found.balanced
    assert "The baseline base is failed, so nothing could be compared." in found.text


def test_several_runs_have_a_verdict_each(classifier_run: Path, generator_run: Path, tmp_path: Path) -> None:
    """A page of two runs of one machine gives each its section and keeps ids apart."""
    text = render_many([classifier_run, generator_run], tmp_path / "both.html").read_text(encoding="utf-8")
    found = Page(text)
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {"r1-verdict", "r2-verdict"} <= set(ids)
    assert "machines" not in found.text
    assert "perplexity +" in found.text


def test_unlike_machines_are_kept_apart(results_of: Make, candidate: Make, tmp_path: Path) -> None:
    """Runs of two machines stand under their machines, with the warning that times do not compare."""
    folders = []
    for index, machine in enumerate(["one", "two", "one"]):
        results = results_of(candidate("x"))
        folders.append(tmp_path / str(index))
        write_results(replace(results, environment={**results.environment, "machine": machine}), folders[-1])
    text = render_many(folders, tmp_path / "all.html").read_text(encoding="utf-8")
    assert "These runs come from 2 machines." in text
    places = [text.index(mark) for mark in ("Machine: one", 'id="r1"', 'id="r3"', "Machine: two", 'id="r2"')]
    assert places == sorted(places)


def test_colours_of_text_have_contrast(page: str) -> None:
    """In both schemes every text and chart colour has at least 4.5 : 1 against its card (WCAG 2.2 AA)."""
    light, dark = (
        dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6})", part)) for part in page.split("(prefers-color-scheme: dark)")[:2]
    )
    for scheme in (light, dark):
        for name in ("text", "soft", "muted", "link", *(f"v{index}" for index in range(12))):
            assert contrast(scheme[f"--{name}"], scheme["--card"]) >= 4.5, name
            assert name.startswith("v") or contrast(scheme[f"--{name}"], scheme["--bg"]) >= 4.5, name
        for name in ("pass", "fail", "open", "none"):
            assert contrast(scheme[f"--{name}"], scheme[f"--{name}-bg"]) >= 4.5, name
            assert contrast(scheme["--muted"], scheme[f"--{name}-bg"]) >= 4.5, name


def contrast(first: str, second: str) -> float:
    """The contrast ratio of WCAG 2.2 of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_charts_that_cannot_be_drawn_cost_only_themselves(
    results_of: Make, candidate: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the renderer is broken the page is written without charts and says why."""
    write_results(results_of(candidate("x")), tmp_path)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    text = render(tmp_path).read_text(encoding="utf-8")
    assert "This page has no charts: the charts could not be drawn (exit 1); install vl-convert-python again." in text
    assert "Ship x:" in text


def test_a_spec_that_cannot_be_drawn_is_an_error() -> None:
    """The renderer's last words are in the error, and the child has ended."""
    with pytest.raises(WorkerError, match="the charts could not be drawn"):
        Drawing().draw([{"mark": 7}])


def test_an_empty_drawing_is_an_error() -> None:
    """What is no SVG is not put on the page."""
    with pytest.raises(WorkerError, match="gave no SVG"):
        accessible("<p>", "id", "title", "description")


def test_rendering_loads_neither_pandas_nor_the_renderer(classifier_run: Path, tmp_path: Path) -> None:
    """The parent draws in a child and reads samples without pandas, so that it stays small."""
    code = (
        "import sys; from weighbridge.reports import render\n"
        f"render({str(classifier_run)!r}, {str(tmp_path / 'page.html')!r})\n"
        "print([name for name in ('pandas', 'vl_convert', 'torch', 'scipy', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_many_variants_stay_readable(results_of: Make, candidate: Make, tmp_path: Path) -> None:
    """With 60 candidates every one is in the tables, charts hold the first 24 variants and say so."""
    many = [candidate(f"v{index}", (0.2 + index / 100, 0.19 + index / 100, 0.21 + index / 100)) for index in range(60)]
    write_results(results_of(*many), tmp_path)
    text = render(tmp_path).read_text(encoding="utf-8")
    found = Page(text)
    assert "v59" in found.text
    assert found.text.count("Drawn: the first 24 of 61 variants.") == 2
    assert "Also passing every rule: v1, v2, v3, v4, v5, v6, v7, v8 and 51 more." in found.text
    assert len(text) < 1_000_000


def test_twelve_variants_of_77_classes_stay_below_a_megabyte(results_of: Make, candidate: Make, tmp_path: Path) -> None:
    """With every table at its fullest (classes, confusions, slices, long changed answers) there is room left for the samples' curves."""
    names = [f"onnxruntime-int8-number-{number}" for number in range(11)]
    classes = [f"a_class_of_customers_{number:02d}" for number in range(77)]
    results = results_of(*(candidate(name) for name in names))
    sliced = [
        {"slice": f"{column}={value}"} for column in ("language", "source") for value in (f"v{n}" for n in range(20))
    ]
    results = replace(
        results,
        class_recalls=tuple(
            ClassRecall(name, each, 40, 0.9, 0.8, -0.1, -0.3, 0.1) for name in names for each in classes
        ),
        confusions=tuple(
            Confusion(name, classes[pair % 77], classes[pair // 3], 1 + pair % 7)
            for name in ("base", *names)
            for pair in range(200)
        ),
        reliability=tuple(
            ReliabilityBin(name, place / 15, (place + 1) / 15, 99, (place + 0.5) / 15, 0.9)
            for name in ("base", *names)
            for place in range(15)
        ),
        flips=tuple(
            Flip(name, 3000 + number, classes[1], classes[1], classes[2], "<words> & more " * 60)
            for name in names
            for number in range(50)
        ),
        measurements=(
            *results.measurements,
            *(
                Measurement(name, "accuracy", "1", each, 0.9, 0.8, 0.95, 99)
                for name in ("base", *names)
                for each in sliced
            ),
        ),
        comparisons=(
            *results.comparisons,
            *(
                Comparison(name, "accuracy", each, "difference", -0.01, -0.05, 0.03, 0.99, 99)
                for name in names
                for each in sliced
            ),
        ),
    )
    write_results(results, tmp_path)
    page = render(tmp_path).read_text(encoding="utf-8")
    assert all(
        section in page for section in ("Confusions", "Recall by class", "Slices", "Reliability", "Changed answers")
    )
    assert len(page.encode()) < 900_000


def test_only_what_is_exported_is_found() -> None:
    """A name that the package does not export is an ordinary attribute error."""
    with pytest.raises(AttributeError, match="no attribute 'rendr'"):
        _ = reports.rendr


def test_a_generators_page_tells_whether_tokens_get_slower(generator_run: Path, tmp_path: Path) -> None:
    """Nine tokens after a prompt of 32 give TPOT at pasts of 34 and 38, in a chart described in words; the table keeps one shape."""
    text = render(generator_run, tmp_path / "report.html").read_text(encoding="utf-8")
    found = {
        (each.variant, each.conditions["past_length"]): each.value
        for each in read_results(generator_run).measurements
        if each.metric == "tpot" and "past_length" in each.conditions
    }
    assert {past for _, past in found} == {34, 38}
    assert "Time per output token against past length" in text
    assert all(
        f"{name}, past {past}: {significant(value)} ms" in text for (name, past), value in found.items() if value
    )
    assert len(Findings(read_results(generator_run)).shapes) == 1


@pytest.mark.parametrize(
    "damage",
    [
        {"reliability": (ReliabilityBin("base", 0.0, 0.1, 9, 0.05, 7.0),)},
        {"reliability": (ReliabilityBin("base", 0.0, 0.1, 0, 0.05, 0.1),)},
        {"class_recalls": (ClassRecall("x", "card", 0, 0.9, 0.8, -0.1, -0.3, 0.1),)},
    ],
)
def test_counts_that_cannot_be_are_refused(
    results_of: Make, candidate: Make, tmp_path: Path, damage: dict[str, Any]
) -> None:
    """A share above 1 or of no example is an input error, for it could be neither drawn nor divided by."""
    write_results(replace(results_of(candidate("x")), **damage), tmp_path)
    with pytest.raises(InputError, match="shares lie from 0 to 1, and are of one example at least"):
        render(tmp_path)
