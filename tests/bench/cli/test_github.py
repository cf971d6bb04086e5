"""Verdicts for GitHub Actions: what its runner makes of the annotations, and what the step's summary holds."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge.bench.cli.github import SUMMARY, add_to_summary, annotations
from weighbridge.bench.results import Gate, Results, VariantRow, Verdict

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def heard(line: str) -> tuple[str, Mapping[str, str], str]:
    """What GitHub's runner hears: level, properties and message, undone in the order of its ActionCommand.cs."""
    found = re.fullmatch(r"::(\w+) ([^:]*)::(.*)", line, re.DOTALL)
    assert found is not None, line
    properties = dict(part.split("=", 1) for part in found[2].split(","))
    return found[1], {name: undone(value, properties=True) for name, value in properties.items()}, undone(found[3])


def undone(text: str, *, properties: bool = False) -> str:
    more = (("%3A", ":"), ("%2C", ",")) if properties else ()
    for written, letter in (("%0D", "\r"), ("%0A", "\n"), *more, ("%25", "%")):
        text = text.replace(written, letter)
    return text


def results_of(*gates: Gate, rows: tuple[VariantRow, ...] = ()) -> Results:
    return Results({}, {"workload": {"name": "w"}}, rows, gates=gates)


def gate(verdict: Verdict, sentence: str = "said", *, variant: str = "next", suspicious: bool = False) -> Gate:
    return Gate("latency_p50", "ratio", {"max": 1.0}, variant, {}, verdict, sentence, suspicious)


@pytest.mark.parametrize(
    ("verdict", "level"),
    [("pass", "notice"), ("fail", "error"), ("inconclusive", "warning"), ("not_evaluated", "warning")],
)
def test_every_verdict_has_its_level_and_title(verdict: Verdict, level: str) -> None:
    """A failed rule is an error, an open one a warning, a passed one a notice; the title names verdict, variant and metric."""
    (line,) = annotations(results_of(gate(verdict, "next: 0.5x, limit 1x")))
    title = f"weighbridge {verdict.replace('_', ' ')}: next latency_p50"
    assert heard(line) == (level, {"title": title}, "next: 0.5x, limit 1x")


@given(variant=TEXTS, sentence=TEXTS)
def test_any_text_is_heard_as_it_was_said(variant: str, sentence: str) -> None:
    """Percent signs, line ends, colons and commas in names and sentences neither end an annotation nor change in it."""
    (line,) = annotations(results_of(gate("fail", sentence, variant=variant)))
    assert not set(line) & {"\r", "\n"}
    level, properties, message = heard(line)
    assert (level, message) == ("error", sentence)
    assert properties == {"title": f"weighbridge fail: {variant} latency_p50"}


def test_a_failed_variant_is_an_error_though_no_rule_names_it() -> None:
    """It alone makes the exit code 4, so that it must be told; an unavailable one that no rule names is not."""
    rows = (VariantRow("a", "fake", "fp32", "failed", reason="broken: NaN"), VariantRow("b", "fake", "", "unavailable"))
    (line,) = annotations(results_of(rows=rows))
    assert heard(line) == ("error", {"title": "weighbridge variant failed: a"}, "a: failed: broken: NaN")


def test_an_implausible_gain_is_flagged() -> None:
    """The flag stands beside the sentence."""
    (line,) = annotations(results_of(gate("pass", suspicious=True)))
    assert line.endswith("::said (suspicious: an implausible gain)")


def test_the_summary_is_added_to_what_other_steps_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Markdown stands behind what was there; without the variable nothing is written."""
    markdown, summary = tmp_path / "summary.md", tmp_path / "step.md"
    markdown.write_text("### ✅ Ship it\n", encoding="utf-8")
    summary.write_text("before\n", encoding="utf-8")
    monkeypatch.delenv(SUMMARY, raising=False)
    add_to_summary(markdown)
    monkeypatch.setenv(SUMMARY, str(summary))
    add_to_summary(markdown)
    assert summary.read_text(encoding="utf-8") == "before\n### ✅ Ship it\n"
