"""From a run's raw files to its results: every number is derived here, again and again alike."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..optimize.errors import ConfigError, InputError
from ..optimize.plain_data import parse_json, parse_toml
from ..optimize.variant import Manifest
from .cache_bytes import cache_evidence, cache_measurements
from .config import Config, GatesConfig, VariantConfig, parse_config
from .confusions import confusions, named, reliability
from .deciding import JudgingPlan
from .disturbance import disturbances
from .evidence import Evidence
from .evidence_of_run import cost_evidence, speed_evidence
from .generated import Generations, read_generations, side_by_side
from .generation_evidence import near_tie_sentences, text_evidence, window_evidence
from .growth import growth_sentences
from .journal import read_journal
from .judge import Judgement, VariantState, judge
from .looks import LOOKS
from .measurements import cost_measurements, speed_measurements
from .no_gain import no_gain_notes
from .predictions import ClassPredictions, WindowScores, read_class_predictions, read_window_scores
from .quality_evidence import quality_evidence, slice_evidence
from .quality_measurements import class_recalls, generation_measurements, quality_measurements
from .results import Flip, Results, VariantRow
from .resuming import resumed_sentences
from .rules import Rule, metrics_in_slices, rules_of
from .samples import CONTROL, Replicate, read_replicates
from .search_findings import read_search
from .sentences import load_sentences
from .sound_run import need_sound_environment, need_sound_events

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
        need_sound_events(events)
        config = _resolved_config(folder / "config.toml")
        environment = need_sound_environment(parse_json((folder / "environment.json").read_text(encoding="utf-8")))
        manifests = {
            path.parent.name: Manifest.from_dict(parse_json(path.read_text(encoding="utf-8")))
            for path in sorted((folder / "variants").glob("*/manifest.json"))
        }
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} is not a whole run folder: {error}") from error
    classes, windows, generations = (
        read_class_predictions(folder),
        read_window_scores(folder),
        read_generations(folder),
    )
    _need_known(folder, config, [*manifests, *classes, *windows, *generations])
    return RunFacts(folder, config, environment, events, manifests, classes, windows, generations)


def replicates_of(facts: RunFacts) -> list[Replicate]:
    """Every replicate of a run, in order.

    Raises:
        InputError: a file is damaged, or holds samples of another run.
    """
    replicates = read_replicates(facts.folder)
    measured = {key for each in replicates for key in (*each.timed, *each.first)}
    parts = {(*key, calls.shape[1]) for each in replicates for key, calls in each.timed.items()}
    if len(parts) > len({(variant, shape) for variant, shape, _ in parts}):
        raise InputError(
            f"{facts.folder} is not a whole run folder: calls at one shape have not the same number of parts"
        )
    _need_known(facts.folder, facts.config, [variant for variant, _ in measured if variant != CONTROL])
    needed = {"batch_size"} | ({"prompt_length", "max_new_tokens"} if facts.kind == "decoder" else set())
    for shape in {shape for _, shape in measured}:
        lacking = needed - set(parse_json(shape))
        if lacking:
            raise InputError(
                f"{facts.folder} is not a whole run folder: samples at {shape} lack {', '.join(sorted(lacking))}"
            )
    return replicates


def _need_known(folder: Path, config: Config, names: Sequence[str]) -> None:
    """Refuse what was found of a variant that the run's config does not have."""
    unknown = set(names) - {variant.name for variant in config.variants}
    if unknown:
        raise InputError(
            f"{folder} is not a whole run folder: it holds something of '{min(unknown)}', a variant that its config.toml does not name"
        )


def _resolved_config(path: Path) -> Config:
    """A run's own config, in which every variant is named."""
    config = parse_config(parse_toml(path.read_text(encoding="utf-8")), path.name)
    if not config.variants:
        raise ValueError(f"{path.name} names no variants")
    return config


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
    gates = _of_these_variants(gates or facts.config.gates, facts.config)
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


def _of_these_variants(gates: GatesConfig, config: Config) -> GatesConfig:
    """The rules, if every variant that they name is the run's."""
    try:
        gates.need_known([variant.name for variant in config.variants])
    except ValueError as error:
        raise ConfigError(f"the rules do not fit the run {config.workload.name}: {error}") from error
    return gates


def evidence_of(facts: RunFacts, replicates: Sequence[Replicate], rules: Sequence[Rule]) -> list[Evidence]:
    """All that a run knows of its candidates against its baseline; slices as far as the rules ask for them.

    The journal is read anew: while a run is weighed it grows by what the processes of each replicate tell.
    """
    baseline = facts.config.baseline.name
    planned = facts.event("plan").get("replicates", LOOKS[-1])
    return [
        *speed_evidence(
            replicates,
            baseline,
            facts.kind,
            latency_limit=facts.config.measure.latency_limit,
            planned=planned,
        ),
        *facts.quality,
        *slice_evidence(facts.classes, baseline, metrics_in_slices(rules), facts.class_names),
        *cost_evidence(facts.manifests, read_journal(facts.folder), replicates, baseline, planned=planned),
        *cache_evidence(facts.manifests, replicates, baseline),
    ]


def plan_facts(facts: RunFacts) -> JudgingPlan:
    """What a further replicate of the run would cost."""
    plan = facts.event("plan")
    names = ("seconds_per_replicate", "percentile_seconds", "max_seconds")
    return JudgingPlan(**{name: plan.get(name, 0.0) for name in names})


def failures_of(facts: RunFacts) -> dict[str, str]:
    """Who failed while it was weighed, and why."""
    return {name: why for event in facts.events_of("replicate") for name, why in event["failed"].items()}


def derive(
    folder: Path, *, gates: GatesConfig | None = None, inconclusive: Literal["fail", "warn"] = "fail"
) -> Results:
    """Derive a run's results from its raw files, by its own rules or by `gates`.

    Raises:
        ConfigError: the rules name a variant that the run has not.
        InputError: the folder is no run's, or a file in it is damaged.
    """
    facts = read_facts(folder)
    replicates = replicates_of(facts)
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
        variants=_rows(facts, replicates, states),
        measurements=tuple(measurements),
        comparisons=judgement.comparisons,
        control=judgement.control,
        gates=judgement.gates,
        flips=tuple(_flips(facts)),
        class_recalls=tuple(class_recalls(facts.classes, facts.config.baseline.name, facts.class_names)),
        confusions=tuple(confusions(facts.classes, facts.class_names)),
        reliability=tuple(reliability(facts.classes)),
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


def _rows(
    facts: RunFacts, replicates: Sequence[Replicate], states: Mapping[str, VariantState]
) -> tuple[VariantRow, ...]:
    no_gain = no_gain_notes(
        facts.manifests,
        replicates,
        facts.kind,
        facts.config.baseline.name,
        planned=facts.event("plan").get("replicates", LOOKS[-1]),
        error_rate=facts.config.measure.error_rate,
    )
    rows = (_row(variant, facts, states[variant.name]) for variant in facts.config.variants)
    return tuple(replace(row, note="; ".join(filter(None, [row.note, no_gain.get(row.name, "")]))) for row in rows)


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
    for variant, answers in facts.classes.items():
        changed = np.flatnonzero(answers.predicted != reference.predicted)[:_FLIPS_A_VARIANT]
        for example in changed.tolist():
            yield Flip(
                variant,
                example,
                named(int(answers.labels[example]), names),
                named(int(reference.predicted[example]), names),
                named(int(answers.predicted[example]), names),
                answers.texts[example],
            )


def _notices(facts: RunFacts, judgement: Judgement) -> Iterator[str]:
    prepared = facts.event("prepared")
    yield from prepared.get("notices", [])
    yield from resumed_sentences(facts.events)
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
