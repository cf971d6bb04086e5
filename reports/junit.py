"""junit.xml: one test case a rule, variant and shape, so that a CI system shows verdicts as it shows tests."""

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from ..bench.results import Gate, Results, VariantRow, Verdict
from . import words

_MARKS: dict[Verdict, str] = {
    "pass": "system-out",
    "fail": "failure",
    "inconclusive": "failure",
    "not_evaluated": "error",
}
"""The element that says of a case what became of it."""
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(runs: Sequence[Results]) -> str:
    """Return a test suite a run with a case a rule, variant and shape.

    A rule that failed or is undecided is a failure whose type is its verdict, one that was not evaluated an error; a variant
    that failed is an error of its own, as it is for the exit code.
    """
    root = ET.Element("testsuites", name="weighbridge")
    for results in runs:
        root.append(_suite(results))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(results: Results) -> ET.Element:
    failed = [row for row in results.variants if row.status == "failed"]
    marks = [_MARKS[gate.verdict] for gate in results.gates]
    suite = ET.Element(
        "testsuite",
        name=_clean(results.config.get("workload", {}).get("name", "weighbridge")),
        timestamp=_clean(str(results.environment.get("date", ""))),
        tests=str(len(results.gates) + len(failed)),
        failures=str(marks.count("failure")),
        errors=str(marks.count("error") + len(failed)),
        skipped="0",
    )
    suite.extend(_rule_case(gate) for gate in results.gates)
    suite.extend(_variant_case(row) for row in failed)
    return suite


def _rule_case(gate: Gate) -> ET.Element:
    shape = words.conditions_text(gate.conditions)
    name = f"{gate.metric} {gate.compare} {words.limit(gate)}" + (f" [{shape}]" if shape else "")
    case = ET.Element("testcase", classname=_clean(f"weighbridge.{gate.variant}"), name=_clean(name))
    sentence = _clean(gate.sentence + (" (suspicious: an implausible gain)" if gate.suspicious else ""))
    mark = _MARKS[gate.verdict]
    about = {} if gate.verdict == "pass" else {"type": gate.verdict, "message": sentence}
    ET.SubElement(case, mark, about).text = sentence
    return case


def _variant_case(row: VariantRow) -> ET.Element:
    case = ET.Element("testcase", classname=_clean(f"weighbridge.{row.name}"), name="variant")
    ET.SubElement(case, "error", type="failed", message=_clean(row.reason)).text = _clean(row.reason)
    return case


def _clean(text: str) -> str:
    """Replace what XML 1.0 cannot hold, such as control characters."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
