"""A run against a saved one: only what can be compared across days is, the rest is left undecided with the reason.

Sizes and answers on the same examples compare directly. Times do not: the machine of another day is another machine. They
are compared as ratios to each run's own baseline, where that is the same artifact on the same device in both.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from ..optimize.errors import InputError
from .config import GatesConfig
from .derive import RunFacts, evidence_of, failures_of, plan_facts, read_facts, replicates_of, states_of
from .environment import unlike, unlike_software
from .evidence import Evidence, Exact, Incomparable, ReplicateRatios, TwoRuns
from .evidence_of_run import artifact_evidence
from .generation_evidence import text_evidence, window_evidence, without_divergences
from .judge import judge
from .metrics import METRICS
from .quality_evidence import quality_evidence, slice_evidence
from .results import Results
from .rules import Rule, metrics_in_slices, rules_of
from .samples import key_of
from .sustained import SustainedRate

_Answers = TypeVar("_Answers")
_THEN = "<then>"
"""The saved run's answers stand under this name; no variant's name can contain these brackets."""


@dataclass(frozen=True)
class _Side:
    """One of the two runs: its raw files, and the evidence of its own candidates against its own baseline."""

    facts: RunFacts
    pieces: Mapping[tuple[str, str, str], Evidence]

    @staticmethod
    def of(facts: RunFacts, rules: Sequence[Rule]) -> "_Side":
        evidence = evidence_of(facts, replicates_of(facts), rules)
        return _Side(facts, {_place(piece): piece for piece in evidence})

    @property
    def baseline(self) -> str:
        """The run's own baseline."""
        return self.facts.config.baseline.name

    @property
    def device(self) -> str:
        """Where torch and ONNX Runtime ran."""
        return self.facts.config.measure.device


def judged_against(
    results: Results,
    saved: Path,
    gates: GatesConfig | None = None,
    inconclusive: Literal["fail", "warn"] = "fail",
    *,
    unlike_machines: bool = False,
) -> Results:
    """A run's results with its variants judged against those of the same names in a saved run: gates, notices, exit code.

    Their `reference` is the saved run; values and comparisons stay those of the run itself.

    Raises:
        InputError: a folder is no run's or damaged, the runs weigh other kinds of models, or (unless `unlike_machines`) they
            were made on machines that are not alike.
    """
    facts, saved_facts = read_facts(results.folder), read_facts(saved)
    differences = _refused(facts, saved_facts, unlike_machines=unlike_machines)
    gates = gates or facts.config.gates
    rules = rules_of(gates, facts.kind)
    now, then = _Side.of(facts, rules), _Side.of(saved_facts, rules)
    name = f"{saved.resolve().name}{' (on an unlike machine)' if differences else ''}"
    judgement = judge(
        rules,
        list(_evidence(now, then, rules)),
        states_of(facts, failures_of(facts)),
        baseline=now.baseline,
        required=gates.required,
        error_rate=facts.config.measure.error_rate,
        plan=plan_facts(facts),
        inconclusive=inconclusive,
        reference=name,
    )
    notices = (*results.notices, *_notices(now, then, name, differences))
    return replace(results, gates=judgement.gates, exit_code=judgement.exit_code, notices=notices, reference=name)


def _refused(now: RunFacts, then: RunFacts, *, unlike_machines: bool) -> list[str]:
    """How the machines differ where that is allowed; raises where it is not."""
    folders = f"{now.folder} and {then.folder}"
    if then.kind != now.kind:
        raise InputError(f"{folders} weigh a {now.kind} and a {then.kind}: they cannot be compared")
    differences = unlike(now.environment, then.environment)
    if differences and not unlike_machines:
        raise InputError(
            f"{folders} were made on machines that are not alike ({'; '.join(differences)}): times do not compare. "
            "Weigh both on one machine, or give --unlike-machines to compare all the same, marked."
        )
    return differences


def _evidence(now: _Side, then: _Side, rules: Sequence[Rule]) -> Iterator[Evidence]:
    """Evidence of every variant of the run that the saved run has too."""
    names = {variant.name for variant in now.facts.config.variants}
    shared = names & {variant.name for variant in then.facts.config.variants}
    yield from _answers(now, then, shared, rules)
    yield from _sizes(now, then, shared)
    for place, piece in now.pieces.items():
        if isinstance(piece, ReplicateRatios):
            yield _times(piece, then.pieces.get(place), now, then)
            yield replace(piece, kinds=("value",))
            why = "a difference of times of two days says nothing; compare by ratio"
            yield Incomparable(piece.variant, piece.metric, piece.conditions, why, kinds=("difference",))
        elif isinstance(piece, SustainedRate):
            yield replace(piece, kinds=("value",))
            why = "the rates that two days sustain say nothing of each other; compare by value"
            yield Incomparable(piece.variant, piece.metric, piece.conditions, why, kinds=("ratio", "difference"))
    for variant in sorted(names - shared):
        for metric in {rule.metric for rule in rules}:
            yield Incomparable(variant, metric, {}, f"the saved run has no variant {variant}")


def _answers(now: _Side, then: _Side, shared: set[str], rules: Sequence[Rule]) -> Iterator[Evidence]:
    """Paired answers of the two runs' variants, where both answered the very same examples."""
    same = now.facts.event("prepared").get("data_sha256") == then.facts.event("prepared").get("data_sha256")
    for variant in sorted(shared):
        if not same:
            for metric in {rule.metric for rule in rules if METRICS[rule.metric].family == "quality"}:
                yield Incomparable(variant, metric, {}, "the two runs answered different examples")
            continue
        classes = _pair(variant, now.facts.classes, then.facts.classes)
        windows = _pair(variant, now.facts.windows, then.facts.windows)
        yield from quality_evidence(classes, _THEN, now.facts.class_names)
        yield from window_evidence({name: without_divergences(each) for name, each in windows.items()}, _THEN)
        yield from text_evidence(_pair(variant, now.facts.generations, then.facts.generations), _THEN)
        if windows:
            yield Incomparable(
                variant, "kl_divergence", {}, "a run keeps how far next tokens are from its own baseline's only"
            )
        yield from slice_evidence(classes, _THEN, metrics_in_slices(rules), now.facts.class_names)


def _pair(variant: str, now: Mapping[str, _Answers], then: Mapping[str, _Answers]) -> dict[str, _Answers]:
    return {_THEN: then[variant], variant: now[variant]} if variant in now and variant in then else {}


def _sizes(now: _Side, then: _Side, shared: set[str]) -> Iterator[Evidence]:
    """Bytes and parameters, which no other day changes; the time of a build is each day's own."""
    for variant in sorted(shared):
        ours, theirs = now.facts.manifests.get(variant), then.facts.manifests.get(variant)
        if ours is not None and theirs is not None:
            for piece in artifact_evidence(variant, theirs, ours):
                yield replace(piece, kinds=("value",)) if piece.metric == "build_time" else piece
            why = "a build of another day was timed once, under that day's load; compare by value"
            yield Incomparable(variant, "build_time", {}, why, kinds=("ratio", "difference"))
    for place, here in now.pieces.items():
        there = then.pieces.get(place)
        if here.metric == "cache_bytes" and isinstance(here, Exact) and isinstance(there, Exact):
            yield replace(here, baseline=there.candidate)


def _times(piece: ReplicateRatios, saved: Evidence | None, now: _Side, then: _Side) -> Evidence:
    """A metric of replicates, through the two in-run baselines; memory, which no other day changes, directly."""
    place = (piece.variant, piece.metric, piece.conditions)
    if not isinstance(saved, ReplicateRatios):
        why = f"the saved run did not measure {piece.metric} of {piece.variant} there"
        return Incomparable(*place, why, kinds=("ratio",))
    if now.device != then.device:
        why = (
            f"this run measured on {now.device} and the saved one on {then.device}, whose times and memory do not compare; "
            "weigh both on one device"
        )
        return Incomparable(*place, why, kinds=("ratio",))
    if piece.metric == "peak_memory":
        return TwoRuns(*place, piece, saved, through_baselines=False)
    if _artifact(now) != _artifact(then):
        names = f"{now.baseline} and {then.baseline}"
        why = f"the in-run baselines {names} are not the same artifact, and times of two days do not compare"
        return Incomparable(*place, why, kinds=("ratio",))
    return TwoRuns(*place, piece, saved, through_baselines=True)


def _artifact(side: _Side) -> object:
    """What a side's baseline is: the hashes of its files and the backend that runs them."""
    manifest = side.facts.manifests.get(side.baseline)
    return (manifest.backend, dict(manifest.sha256)) if manifest else side.facts.folder


def _place(piece: Evidence) -> tuple[str, str, str]:
    return piece.variant, piece.metric, key_of(piece.conditions)


def _notices(now: _Side, then: _Side, name: str, differences: Sequence[str]) -> Iterator[str]:
    made = then.facts.environment
    at = f", commit {made['commit']}" if made.get("commit") else ""
    yield (
        f"Judged against {name} of {made.get('date', 'an unknown date')}{at}: times through each run's own baseline, answers on the "
        "same examples."
    )
    if differences:
        yield f"The machines are not alike: {'; '.join(differences)}."
    software = unlike_software(now.facts.environment, made)
    if software:
        yield f"The software is not the same: {'; '.join(software)}."
