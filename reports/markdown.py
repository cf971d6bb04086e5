"""summary.md: the lines that a reviewer reads in a pull request or a step summary; at most 60 of them."""

import re
from collections.abc import Iterator, Sequence

from ..bench.results import Gate, Results
from . import classes, tables, verdicts, words
from .findings import Findings
from .run_folder import Run

MOST_LINES = 60
_ROWS = 12
"""So many variants of a table are listed; the report has all of them."""
_SENTENCES = 10
_MARKS = {"ship": "✅", "stop": "❌", "open": "❔", "none": "⏸️"}
_COLUMNS = 5
"""The main speed, how it compares, quality, its change, and size: the first columns of a comparison."""


def to_markdown(runs: Sequence[Run]) -> str:
    """Return the verdict, the comparison of each shape and what did not pass, in at most MOST_LINES lines a call."""
    lines: list[str] = []
    for run in runs:
        lines += _run(Findings(run.results), (MOST_LINES - 1) // len(runs))
    return "\n".join(lines[:MOST_LINES]) + "\n"


def _run(findings: Findings, room: int) -> list[str]:
    """One run in at most `room` lines: first of all the verdict, then what the room allows."""
    results = findings.results
    answer = verdicts.headline(findings)
    counts = verdicts.counts(results.gates)
    lines = [
        f"### {_MARKS[answer.tone]} {escape(answer.text)}",
        "",
        *(f"{escape(sentence)}  " for sentence in answer.support[:_SENTENCES]),
        f"{escape(verdicts.exit_sentence(results))}{f'. Verdicts: {counts}' if counts else ''}.",
        "",
    ]
    lost = classes.loss_sentence(results)
    parts = [
        list(_open_rules(results)),
        [escape(lost), ""] if lost else [],
        *(list(_table(table)) for table in tables.shape_tables(findings)),
    ]
    last = [_environment(results), *(f"- {escape(notice)}" for notice in results.notices[:_SENTENCES]), ""]
    for part in parts:
        if len(lines) + len(part) + len(last) <= room:
            lines += part
    return [*lines, *last][:room]


def _table(table: tables.Table) -> Iterator[str]:
    columns = table.columns[:_COLUMNS]
    if not columns:
        return
    headings = [f"{each.title}, {each.unit}" if each.unit else each.title for each in columns]
    yield f"| {escape(table.title) or 'variant'} | verdict | {' | '.join(headings)} |"
    yield f"|{' --- |' * 2}{' ---: |' * len(columns)}"
    for row in table.rows[:_ROWS]:
        cells = [f"{cell.text} {cell.detail}".strip() for cell in row.cells[:_COLUMNS]]
        if not row.cells:
            cells = [row.remark, *[""] * (len(columns) - 1)]
        flag = " (suspicious)" if row.suspicious and row.standing != "suspicious" else ""
        verdict = verdicts.STANDINGS[row.standing] + flag
        yield f"| {' | '.join([escape(row.variant.name), verdict, *map(escape, cells)])} |"
    if len(table.rows) > _ROWS:
        yield f"| {len(table.rows) - _ROWS} more in report.html | |{' |' * len(columns)}"
    yield ""


def _open_rules(results: Results) -> Iterator[str]:
    """What did not pass, failures first."""
    order = ("fail", "inconclusive", "not_evaluated")
    found: list[Gate] = sorted(
        (gate for gate in results.gates if gate.verdict in order), key=lambda gate: order.index(gate.verdict)
    )
    for gate in found[:_SENTENCES]:
        yield f"- **{verdicts.STANDINGS[gate.verdict]}** {escape(gate.sentence)}"
    if len(found) > _SENTENCES:
        yield f"- and {len(found) - _SENTENCES} more in report.html"
    if found:
        yield ""


def _environment(results: Results) -> str:
    """Workload, date, commit and machine in one line."""
    found = results.environment
    workload = results.config.get("workload", {}).get("name", "")
    parts = (workload, words.moment(str(found.get("date", ""))), found.get("commit", ""), found.get("machine", ""))
    return f"<sub>{escape(', '.join(str(each) for each in parts if each))}</sub>"


_SPECIAL = re.compile(r"([\\`*|~$])")
_LINK = re.compile(r"\](?=[(\[])")
_LONE_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_MENTION = re.compile(r"[@#](?=\w)")
_BLOCK = re.compile(r"^(\d*)([#+.)-])(?=[#\s])")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def escape(text: str) -> str:
    """Text that stays text in Markdown: no markup, HTML, link or end of a cell, no new line, nobody mentioned, nothing unseen."""
    text = _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split()))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _LONE_UNDERSCORE.sub(r"\\_", _SPECIAL.sub(r"\\\1", text))
    text = _BLOCK.sub(r"\1\\\2", _LINK.sub(r"\\]", text))
    return _MENTION.sub(r"\g<0><!-- -->", text)
