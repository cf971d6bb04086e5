"""Verdicts for GitHub Actions: annotations on the run's page, and the summary of the step.

Workflow commands: https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

import os
from collections.abc import Iterator
from pathlib import Path

from ..results import Gate, Results, VariantRow

SUMMARY = "GITHUB_STEP_SUMMARY"
"""The variable that names the file to which a step adds its Markdown."""
_LEVELS = {"pass": "notice", "fail": "error"}
_IN_MESSAGES = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_IN_PROPERTIES = _IN_MESSAGES | str.maketrans({":": "%3A", ",": "%2C"})


def annotations(results: Results) -> Iterator[str]:
    """A workflow command a verdict, and one for each variant that failed: error, warning (not decided) or notice (passed)."""
    yield from (_of_variant(row) for row in results.variants if row.status == "failed")
    yield from (_of_gate(gate) for gate in results.gates)


def add_to_summary(markdown: Path) -> None:
    """Append a file to the step's summary; nothing where this is no step of a workflow.

    Raises:
        OSError: the summary cannot be written.
    """
    named = os.environ.get(SUMMARY)
    if named:
        with Path(named).open("a", encoding="utf-8") as file:
            file.write(markdown.read_text(encoding="utf-8"))


def _of_gate(gate: Gate) -> str:
    flag = " (suspicious: an implausible gain)" if gate.suspicious else ""
    title = f"weighbridge {gate.verdict.replace('_', ' ')}: {gate.variant} {gate.metric}"
    return _command(_LEVELS.get(gate.verdict, "warning"), title, gate.sentence + flag)


def _of_variant(row: VariantRow) -> str:
    return _command("error", f"weighbridge variant failed: {row.name}", f"{row.name}: failed: {row.reason}")


def _command(level: str, title: str, message: str) -> str:
    return f"::{level} title={title.translate(_IN_PROPERTIES)}::{message.translate(_IN_MESSAGES)}"
