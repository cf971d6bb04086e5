"""From a run's raw files to its results: every number is derived here, again and again alike."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..optimize.errors import InputError
from ..optimize.variant import Manifest
from .config import Config, GatesConfig, VariantConfig, parse_config
from .evidence import Evidence
from .evidence_of_run import cost_evidence, quality_evidence, speed_evidence
from .journal import read_journal
from .judge import Judgement, JudgingPlan, VariantState, judge
from .measurements import cost_measurements, quality_measurements, speed_measurements
from .predictions import ClassPredictions, WindowScores, read_class_predictions, read_window_scores
from .results import Flip, Results, VariantRow
from .rules import rules_of
from .samples import CONTROL, Replicate, read_replicates

_FLIPS_A_VARIANT = 50


@dataclass(frozen=True)
class RunFacts:
    """The raw files of a run, read: what deriving starts from."""

    folder: Path
    config: Config
    environment: Mapping[str, Any]
    events: Sequence[Mapping[str, Any]]
    manifests: Mapping[str, Manifest]
    classes: Mapping[str, ClassPredictions]
    windows: Mapping[str, WindowScores]

    def event(self, name: str) -> Mapping[str, Any]:
        """The last event of that name; empty where there is none."""
        return next((event for event in reversed(self.events) if event["event"] == name), {})

    def events_of(self, name: str) -> Iterator[Mapping[str, Any]]:
        """Every event of that name, in order."""
        return (event for event in self.events if event["event"] == name)

    @property
    def kind(self) -> Literal["classifier", "decoder"]:
        """What kind of model was weighed."""
        return "decoder" if self.event("prepared").get("kind") == "decoder" else "classifier"


def read_facts(folder: Path) -> RunFacts:
    """Read a run's raw files.

    Raises:
        InputError: the folder is no run's, or a file in it is damaged.
    """
    events = read_journal(folder)
    try:
        config = parse_config(tomllib.loads((folder / "config.toml").read_text(encoding="utf-8")), "config.toml")
        environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
        manifests = {
            path.parent.name: Manifest.from_dict(json.loads(path.read_text(encoding="utf-8")))
            for path in sorted((folder / "variants").glob("*/manifest.json"))
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} is not a whole run folder: {error}") from error
    return RunFacts(
        folder, config, environment, events, manifests, read_class_predictions(folder), read_window_scores(folder)
    )


def states_of(facts: RunFacts, failed: Mapping[str, str]) -> dict[str, VariantState]:
    """What became of every variant: at its build, at its check, and while it was weighed."""
    states = {}
    built = {event["variant"]: event for event in facts.events_of("built")}
    checks = {event["variant"]: event["failure"] for event in facts.events_of("checked")}
    for variant in facts.config.variants:
        event = built.get(variant.name, {"status": "failed", "reason": "the run ended before it was built"})
        reason = checks.get(variant.name) or failed.get(variant.name, "")
        if variant.baseline and CONTROL in failed and not reason:
            reason = f"a second process of it, the control, failed {failed[CONTROL]}"
        state = VariantState(event["status"], event["reason"])
        states[variant.name] = VariantState("failed", reason) if reason else state
    return states


def judgement_of(
    facts: RunFacts,
    replicates: Sequence[Replicate],
    failed: Mapping[str, str],
    *,
    gates: GatesConfig | None = None,
    inconclusive: Literal["fail", "warn"] = "fail",
) -> Judgement:
    """Judge what is known so far; the session asks this at every look, `derive` at the end."""
    baseline = facts.config.baseline.name
    gates = gates or facts.config.gates
    evidence: list[Evidence] = [
        *speed_evidence(replicates, baseline, facts.kind),
        *quality_evidence(facts.classes, facts.windows, baseline),
        *cost_evidence(facts.manifests, facts.events, baseline),
    ]
    plan = facts.event("plan")
    return judge(
        rules_of(gates, facts.kind),
        evidence,
        states_of(facts, failed),
        baseline=baseline,
        required=gates.required,
        error_rate=facts.config.measure.error_rate,
        plan=JudgingPlan(
            seconds_per_replicate=plan.get("seconds_per_replicate", 0.0), max_replicates=plan.get("replicates", 0)
        ),
        inconclusive=inconclusive,
    )


def derive(
    folder: Path, *, gates: GatesConfig | None = None, inconclusive: Literal["fail", "warn"] = "fail"
) -> Results:
    """Derive a run's results from its raw files, by its own rules or by `gates`.

    Raises:
        InputError: the folder is no run's, or a file in it is damaged.
    """
    facts = read_facts(folder)
    replicates = read_replicates(folder)
    failed = {name: why for event in facts.events_of("replicate") for name, why in event["failed"].items()}
    judgement = judgement_of(facts, replicates, failed, gates=gates, inconclusive=inconclusive)
    states = states_of(facts, failed)
    measurements = [
        *speed_measurements(replicates, facts.kind),
        *quality_measurements(facts.classes, facts.windows, facts.config.baseline.name),
        *cost_measurements(facts.manifests, facts.events, replicates),
    ]
    return Results(
        environment=dict(facts.environment),
        config=facts.config.model_dump(mode="json", exclude_none=True),
        variants=tuple(_row(variant, facts, states[variant.name]) for variant in facts.config.variants),
        measurements=tuple(measurements),
        comparisons=judgement.comparisons,
        control=judgement.control,
        gates=judgement.gates,
        flips=tuple(_flips(facts)),
        notices=tuple(_notices(facts, judgement)),
        exit_code=judgement.exit_code,
        folder=folder,
    )


def _row(variant: VariantConfig, facts: RunFacts, state: VariantState) -> VariantRow:
    manifest = facts.manifests.get(variant.name)
    built = next((event for event in facts.events_of("built") if event["variant"] == variant.name), {})
    data = manifest.to_dict() if manifest else {}
    return VariantRow(
        name=variant.name,
        backend=variant.backend,
        precision=data.get("precision") or variant.precision or "",
        status=state.status,
        baseline=variant.baseline,
        reason=state.reason,
        note=built.get("note", ""),
        bytes=data.get("bytes"),
        parameters=data.get("parameters"),
        audit=data.get("audit"),
        parity=data.get("parity"),
        steps=tuple(data.get("steps", ())),
        build_seconds=data.get("build_seconds"),
    )


def _flips(facts: RunFacts) -> Iterator[Flip]:
    """The first examples of each candidate that it answers otherwise than the baseline."""
    reference = facts.classes.get(facts.config.baseline.name)
    if reference is None:
        return
    names = facts.event("prepared").get("class_names", [])

    def named(index: int) -> str:
        return str(names[index]) if 0 <= index < len(names) else ("" if index < 0 else str(index))

    for variant, answers in facts.classes.items():
        changed = np.flatnonzero(answers.predicted != reference.predicted)[:_FLIPS_A_VARIANT]
        for example in changed.tolist():
            yield Flip(
                variant,
                example,
                named(int(answers.labels[example])),
                named(int(reference.predicted[example])),
                named(int(answers.predicted[example])),
                answers.texts[example],
            )


def _notices(facts: RunFacts, judgement: Judgement) -> Iterator[str]:
    prepared = facts.event("prepared")
    yield from prepared.get("notices", [])
    if prepared.get("drawn"):
        yield "Inputs were drawn at random from the model's own signature: accuracy not judged."
    if not judgement.gates:
        why = (
            "no candidate is ok"
            if rules_of(facts.config.gates, facts.kind)
            else "the config has no rules and no preset"
        )
        yield f"Nothing was judged: {why}."
