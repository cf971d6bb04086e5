"""The verdict in words: what may be deployed, why not, or what it would take to decide."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ..bench.metrics import Conditions
from ..bench.results import Comparison, Gate, Results, VariantRow, Verdict
from . import words
from .findings import Findings

Tone = Literal["ship", "stop", "open", "none"]
Standing = Literal[
    "pass", "fail", "inconclusive", "not_evaluated", "suspicious", "not_judged", "unavailable", "failed", "baseline"
]

STANDINGS: dict[Standing, str] = {
    "pass": "pass",
    "fail": "fail",
    "inconclusive": "undecided",
    "not_evaluated": "not evaluated",
    "suspicious": "suspicious",
    "not_judged": "not judged",
    "unavailable": "unavailable",
    "failed": "failed",
    "baseline": "baseline",
}
"""What became of a variant, and the word for it."""

EXIT_CODES = {
    0: "every rule that was judged passed",
    1: "a rule failed",
    2: "usage, config or input error",
    3: "a rule is undecided or was not evaluated",
    4: "a requested variant failed, or a rule names one that is unavailable",
    70: "internal error",
    130: "interrupted",
    143: "interrupted",
}
_WORST_FIRST: tuple[Verdict, ...] = ("fail", "inconclusive", "not_evaluated")
_VERDICTS: tuple[Verdict, ...] = ("pass", *_WORST_FIRST)
_SHAPES_IN_FULL = 2
_SENTENCES = 3
_NAMES = 8
_SMALLER = 0.95


@dataclass(frozen=True)
class Headline:
    """The answer of a run: a label, one sentence, and sentences that support it."""

    tone: Tone
    label: str
    text: str
    support: tuple[str, ...] = ()


def standing(findings: Findings, row: VariantRow, conditions: Conditions | None = None) -> Standing:
    """What became of a variant, at one shape or (without) at all of them; the worst verdict counts."""
    if row.status != "ok":
        return row.status
    if row.baseline:
        return "baseline"
    gates = findings.gates(row.name, conditions)
    verdicts = {gate.verdict for gate in gates}
    worst = next((verdict for verdict in _WORST_FIRST if verdict in verdicts), None)
    if worst is not None:
        return worst
    if any(gate.suspicious for gate in gates):
        return "suspicious"
    return "pass" if verdicts else "not_judged"


def headline(findings: Findings) -> Headline:
    """Say which variant may be deployed; else why none, or what it would take to say."""
    results = findings.results
    baseline = next((row for row in results.variants if row.baseline), None)
    if baseline is not None and baseline.status != "ok":
        text = f"The baseline {baseline.name} is {baseline.status}, so nothing could be compared."
        return Headline("stop", "No verdict", text, tuple(filter(None, [baseline.reason])))
    candidates = [row for row in results.variants if not row.baseline]
    usable = [row for row in candidates if row.status == "ok"]
    if not usable:
        reasons = tuple(f"{row.name} is {row.status}: {row.reason}" for row in candidates)
        return Headline("stop", "Nothing to ship", "No candidate could be weighed.", reasons)
    usable.sort(key=lambda row: mean_ratio(findings, row.name))
    if not results.gates:
        return _unjudged(findings, usable)
    return _judged(findings, usable)


def _judged(findings: Findings, usable: Sequence[VariantRow]) -> Headline:
    """The answer of a run with rules; `usable` candidates come fastest first."""
    standings = {row.name: standing(findings, row) for row in usable}
    passed = [row for row in usable if standings[row.name] == "pass"]
    suspicious = [row for row in usable if standings[row.name] == "suspicious"]
    undecided = [row for row in usable if standings[row.name] in ("inconclusive", "not_evaluated")]
    if passed:
        return _passed(findings, passed, suspicious)
    if suspicious:
        first = suspicious[0]
        text = f"Look at {first.name} before shipping it: its gain is implausible ({facts(findings, first)})."
        return Headline(
            "open", "Suspicious", text, ("It passes every rule; its audit and parity below say what it is.",)
        )
    if undecided:
        return _undecided(findings, undecided[0])
    refused = [row for row in usable if standings[row.name] == "fail"]
    return _refused(findings, refused) if refused else _unjudged(findings, usable)


def _passed(findings: Findings, passed: Sequence[VariantRow], suspicious: Sequence[VariantRow]) -> Headline:
    best, others = passed[0], [row.name for row in passed[1:]]
    more = f" and {len(others) - _NAMES} more" if len(others) > _NAMES else ""
    support = [f"Also passing every rule: {', '.join(others[:_NAMES])}{more}."] if others else []
    support += [
        f"{row.name} passes too, but its gain is implausible: look at its audit first."
        for row in suspicious[:_SENTENCES]
    ]
    if mean_ratio(findings, best.name) >= 1 and not _is_smaller(findings, best):
        text = f"Keep {findings.baseline}: {best.name} passes every rule but gains nothing ({facts(findings, best)})."
        return Headline("none", "Keep the baseline", text, tuple(support))
    return Headline("ship", "Ship", f"Ship {best.name}: {facts(findings, best)}.", tuple(support))


def _unjudged(findings: Findings, usable: Sequence[VariantRow]) -> Headline:
    found = facts(findings, usable[0])
    support = (f"Fastest: {usable[0].name}, {found}.",) if found else ()
    text = (
        "Nothing was judged: no rule concerns a candidate."
        if findings.results.gates
        else "Nothing was judged: the config has no rules and no preset."
    )
    return Headline("none", "Not judged", text, support)


def _undecided(findings: Findings, best: VariantRow) -> Headline:
    open_ = [gate for gate in findings.gates(best.name) if gate.verdict in ("inconclusive", "not_evaluated")]
    what = " and ".join(dict.fromkeys(words.title(gate.metric) for gate in open_))
    found = facts(findings, best)
    text = f"Undecided: {best.name} breaks no rule{f' ({found})' if found else ''}, but {what} could not be decided."
    return Headline("open", "Undecided", text, tuple(gate.sentence for gate in open_[:_SENTENCES]))


def _refused(findings: Findings, refused: Sequence[VariantRow]) -> Headline:
    """Every candidate breaks a rule; the nearest breaks the fewest."""
    best = min(refused, key=lambda row: len(_broken(findings, row)))
    number = len(refused)
    why = f"{best.name}, {facts(findings, best)}, breaks: {'; '.join(_broken(findings, best))}."
    if number == 1:
        return Headline("stop", "Do not ship", f"Do not ship {best.name}: it breaks a rule.", (why,))
    text = f"Ship none of the {number} candidates: each breaks a rule."
    return Headline("stop", "Do not ship", text, (f"Nearest: {why}",))


def _broken(findings: Findings, row: VariantRow) -> list[str]:
    failed = [gate for gate in findings.gates(row.name) if gate.verdict == "fail"]
    return list(dict.fromkeys(words.rule(gate, findings.reference) for gate in failed))


def mean_ratio(findings: Findings, variant: str) -> float:
    """Geometric mean over the shapes of the ratio of the main speed metric; infinite where it was not measured."""
    found = [findings.comparison(variant, findings.speed, each, "ratio") for each in findings.shapes]
    logs = [math.log(each.value) for each in found if each is not None and each.value > 0]
    return math.exp(sum(logs) / len(logs)) if logs else math.inf


def _is_smaller(findings: Findings, row: VariantRow) -> bool:
    size, reference = findings.bytes_of(row), findings.bytes_of(findings.results.baseline)
    return bool(size and reference and size < _SMALLER * reference)


def facts(findings: Findings, row: VariantRow) -> str:
    """What a variant gains and costs: `4.6x faster [4.4, 4.8], accuracy -0.2 points [-0.5, +0.1], 4.0x smaller`."""
    change = findings.quality_change(row.name)
    quality = f"{words.title(change.metric)} {words.change(change)} {words.change_bounds(change)}" if change else ""
    size = words.smaller(findings.bytes_of(row), findings.bytes_of(findings.results.baseline))
    return ", ".join(filter(None, [_speed(findings, row), quality, size]))


def _speed(findings: Findings, row: VariantRow) -> str:
    shapes = findings.shapes
    found = [(each, findings.comparison(row.name, findings.speed, each, "ratio")) for each in shapes]
    measured = [(each, ratio) for each, ratio in found if ratio is not None]
    if len(measured) > _SHAPES_IN_FULL:
        return _range([ratio for _, ratio in measured])
    return ", ".join(
        f"{words.speedup(ratio)} {words.speedup_bounds(ratio)}"
        + (f" at {words.shape(each, among=shapes)}" if len(shapes) > 1 else "")
        for each, ratio in measured
    )


def _range(ratios: Sequence[Comparison]) -> str:
    ordered = sorted(ratios, key=lambda each: each.value)
    return f"{words.speedup(ordered[0])} to {words.speedup(ordered[-1])} over {len(ordered)} shapes"


@dataclass(frozen=True)
class RuleVerdicts:
    """One rule in words, with its gates in the order of the run."""

    text: str
    gates: tuple[Gate, ...]


def rules(findings: Findings) -> Iterator[RuleVerdicts]:
    """The gates grouped by the rule that they judge, in the order of the rules."""
    groups: dict[tuple[object, ...], list[Gate]] = {}
    for gate in findings.results.gates:
        judged = (gate.metric, gate.compare, *gate.limit.items(), words.column_of(gate))
        groups.setdefault(judged, []).append(gate)
    for gates in groups.values():
        yield RuleVerdicts(words.rule(gates[0], findings.reference), tuple(gates))


def counts(gates: Sequence[Gate]) -> str:
    """How many verdicts of each kind: `7 pass, 2 fail, 1 undecided`."""
    found = [(STANDINGS[kind], sum(gate.verdict == kind for gate in gates)) for kind in _VERDICTS]
    return ", ".join(f"{number} {word}" for word, number in found if number)


def exit_sentence(results: Results) -> str:
    """The exit code and what it means."""
    meaning = EXIT_CODES.get(results.exit_code, "unknown")
    failed = [row.name for row in results.variants if row.status == "failed"]
    if results.exit_code == 4 and failed:  # noqa: PLR2004 - the code for failed variants
        meaning = f"{', '.join(failed)} failed"
    if results.exit_code == 0 and not results.gates:
        meaning = "nothing was judged"
    if results.exit_code == 0 and any(gate.verdict == "inconclusive" for gate in results.gates):
        meaning = "no rule failed; undecided rules were only warned about"
    return f"Exit code {results.exit_code}: {meaning}"
