"""From a run's raw files to its results: every number is derived here, again and again alike."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..optimize.errors import InputError
from ..optimize.variant import Manifest
from .cache_bytes import cache_evidence, cache_measurements
from .config import Config, GatesConfig, VariantConfig, parse_config
from .disturbance import disturbances
from .evidence import Evidence
from .evidence_of_run import cost_evidence, speed_evidence
from .generated import Generations, read_generations, side_by_side
from .generation_evidence import near_tie_sentences, text_evidence, window_evidence
from .growth import growth_sentences
from .journal import read_journal
from .judge import Judgement, JudgingPlan, VariantState, judge
from .looks import LOOKS
from .measurements import cost_measurements, speed_measurements
from .predictions import ClassPredictions, WindowScores, read_class_predictions, read_window_scores
from .quality_evidence import quality_evidence, slice_evidence
from .quality_measurements import class_recalls, generation_measurements, quality_measurements
from .results import Flip, Results, VariantRow
from .rules import Rule, metrics_in_slices, rules_of
from .samples import CONTROL, Replicate, read_replicates
from .search_findings import read_search
from .sentences import load_sentences

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
    generations: Mapping[str, Generations]

    def event(self, name: str) -> Mapping[str, Any]:
        """The last event of that name; empty where there is none."""
        return next((event for event in reversed(self.events) if event["event"] == name), {})

    def events_of(self, name: str) -> Iterator[Mapping[str, Any]]:
        """Every event of that name, in order."""
        return (event for event in self.events if event["event"] == name)

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, in the order of the scores; empty for generators."""
        return [str(name) for name in self.event("prepared").get("class_names", [])]

    @cached_property
    def quality(self) -> tuple[Evidence, ...]:
        """The evidence of the predictions on all examples: the same at every look."""
        baseline = self.config.baseline.name
        return (
            *quality_evidence(self.classes, baseline, self.class_names),
            *window_evidence(self.windows, baseline),
            *text_evidence(self.generations, baseline),
        )

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
        folder,
        config,
        environment,
        events,
        manifests,
        read_class_predictions(folder),
        read_window_scores(folder),
        read_generations(folder),
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
    gates = gates or facts.config.gates
    rules = rules_of(gates, facts.kind)
    return judge(
        rules,
        evidence_of(facts, replicates, rules),
        states_of(facts, failed),
        baseline=facts.config.baseline.name,
        required=gates.required,
        error_rate=facts.config.measure.error_rate,
        plan=plan_facts(facts),
        inconclusive=inconclusive,
    )


def evidence_of(facts: RunFacts, replicates: Sequence[Replicate], rules: Sequence[Rule]) -> list[Evidence]:
    """All that a run knows of its candidates against its baseline; slices as far as the rules ask for them."""
    baseline = facts.config.baseline.name
    return [
        *speed_evidence(
            replicates,
            baseline,
            facts.kind,
            latency_limit=facts.config.measure.latency_limit,
            planned=facts.event("plan").get("replicates", LOOKS[-1]),
        ),
        *facts.quality,
        *slice_evidence(facts.classes, baseline, metrics_in_slices(rules), facts.class_names),
        *cost_evidence(facts.manifests, facts.events, baseline),
        *cache_evidence(facts.manifests, replicates, baseline),
    ]


def plan_facts(facts: RunFacts) -> JudgingPlan:
    """What a further replicate of the run would cost."""
    plan = facts.event("plan")
    return JudgingPlan(plan.get("seconds_per_replicate", 0.0), plan.get("percentile_seconds", 0.0))


def failures_of(facts: RunFacts) -> dict[str, str]:
    """Who failed while it was weighed, and why."""
    return {name: why for event in facts.events_of("replicate") for name, why in event["failed"].items()}


def derive(
    folder: Path, *, gates: GatesConfig | None = None, inconclusive: Literal["fail", "warn"] = "fail"
) -> Results:
    """Derive a run's results from its raw files, by its own rules or by `gates`.

    Raises:
        InputError: the folder is no run's, or a file in it is damaged.
    """
    facts = read_facts(folder)
    replicates = read_replicates(folder)
    failed = failures_of(facts)
    judgement = judgement_of(facts, replicates, failed, gates=gates, inconclusive=inconclusive)
    states = states_of(facts, failed)
    searched = read_search(folder)
    measurements = [
        *speed_measurements(replicates, facts.kind, facts.config.measure.latency_limit),
        *quality_measurements(facts.classes, facts.config.baseline.name, facts.class_names),
        *generation_measurements(facts.windows, facts.generations, facts.config.baseline.name),
        *cost_measurements(facts.manifests, facts.events, replicates),
        *cache_measurements(facts.manifests, replicates),
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
        class_recalls=tuple(class_recalls(facts.classes, facts.config.baseline.name, facts.class_names)),
        texts=tuple(side_by_side(facts.generations, facts.config.baseline.name)),
        notices=(
            *(searched.sentences if searched else ()),
            *load_sentences(measurements, facts.config.measure.latency_limit),
            *_notices(facts, judgement),
        ),
        search=searched,
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
    names = facts.class_names

    def named(index: int) -> str:
        return names[index] if 0 <= index < len(names) else ("" if index < 0 else str(index))

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
    yield from near_tie_sentences(facts.events)
    yield from growth_sentences(facts.events, facts.config.baseline.name)
    yield from disturbances(list(facts.events_of("replicate")), int(facts.environment.get("cores", 1)))
    if prepared.get("drawn"):
        yield "Inputs were drawn at random from the model's own signature: accuracy not judged."
    if not judgement.gates:
        why = (
            "no candidate is ok"
            if rules_of(facts.config.gates, facts.kind)
            else "the config has no rules and no preset"
        )
        yield f"Nothing was judged: {why}."
