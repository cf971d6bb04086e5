"""The stages of a run behind its preparation: build, check, weigh.

Each leaves word in the journal of what it has done, and does not do again what the journal of an interrupted run says is done.
"""

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..optimize.backends import backend
from ..optimize.cache import in_use
from ..optimize.errors import ConfigError, InputError
from ..optimize.files import write_json, write_text
from ..optimize.variant import MANIFEST, Variant
from . import environment
from .building import Built, build, built_before
from .checks import Checked, check_all
from .config import Config, MeasureConfig, VariantConfig, to_toml
from .derive import judgement_of, read_facts
from .generated import write_generations
from .journal import Journal
from .metrics import Conditions
from .on_device import device_sentences
from .plan import Plan, make_plan
from .predictions import ClassPredictions, WindowScores, write_class_predictions, write_window_scores
from .reporter import Reporter
from .resuming import (
    CHECKS,
    ENVIRONMENT,
    Begun,
    Past,
    hashes_of,
    need_same_material,
    need_same_place,
    planned_before,
    weighed_before,
)
from .rules import least_calls_for, rules_of
from .samples import CONTROL, key_of
from .session import Contender, Setting, Weighed, groups_that_fit, only_one_weighs, patience, weigh
from .workloads.base import Prepared

_HASHES = {"model": "source_sha256", "data": "data_sha256", "calibration data": "calibration_sha256"}
"""Under which key the journal keeps what hash."""


@dataclass(frozen=True)
class Job:
    """A run: its folder, what is weighed at which shapes, how it was begun, and what of it is done."""

    folder: Path
    config: Config
    prepared: Prepared
    shapes: tuple[Conditions, ...]
    begun: Begun
    past: Past
    reporter: Reporter

    @cached_property
    def journal(self) -> Journal:
        """The run's journal."""
        return Journal(self.folder)

    @cached_property
    def artifacts(self) -> contextlib.ExitStack:
        """What keeps the run's artifacts in the cache, from the moment that each is built until all are weighed."""
        return contextlib.ExitStack()

    @property
    def base(self) -> Path:
        """The folder against which paths of the config are meant."""
        return Path(self.begun.base)

    @property
    def provider(self) -> str | None:
        """The execution provider, None for the CPU's."""
        return provider_of(self.config.measure)


def provider_of(measured: MeasureConfig) -> str | None:
    """The execution provider of a config, None for the CPU's."""
    return None if measured.device == "cpu" else measured.device


def begin(job: Job, notices: Sequence[str]) -> None:
    """Write what is known before anything is built."""
    prepared = job.prepared
    write_text(job.folder / "config.toml", to_toml(job.config))
    write_json(job.folder / ENVIRONMENT, environment.describe(job.base))
    job.journal.write(
        "prepared",
        kind=prepared.kind,
        class_names=list(prepared.class_names),
        examples=prepared.examples,
        drawn=prepared.drawn,
        notices=list(notices),
        **{_HASHES[name]: value for name, value in hashes_of(prepared).items()},
    )


def go_on(job: Job) -> None:
    """Check that a run which is gone on with is still the same, and write where and when that is.

    Raises:
        ConfigError: model, data, machine or software are not what the run was begun with.
        InputError: the run folder is damaged.
    """
    now = environment.describe(job.base)
    before = job.past.first("prepared") or {}
    need_same_place(job.folder, now)
    need_same_material(job.prepared, {name: before.get(key) for name, key in _HASHES.items()}, "run")
    taken = len(list(job.past.of("replicate")))
    job.reporter.tell(f"going on with {job.folder} after {taken} replicates")
    job.journal.write("resumed", date=now["date"], replicates=taken, environment=now)


def build_one(
    variant: VariantConfig, prepared: Prepared, base: Path, reporter: Reporter, measured: MeasureConfig
) -> Built:
    """Build a variant in a child process; one that fails or cannot run here costs only its own row."""
    with reporter.stage(f"building {variant.name}") as progress:
        made = build(
            variant,
            prepared,
            base=base,
            threads=2,
            progress=progress,
            provider=provider_of(measured),
            batch_sizes=measured.batch_sizes,
        )
        progress(1.0, "from cache" if made.from_cache else made.status)
    return made


def build_stage(job: Job) -> list[Built]:
    """Every variant built, those of an interrupted run taken as they were; `measure` lets go of their artifacts.

    Raises:
        BuildError: an artifact was cleared from the cache at the very moment at which it was built.
    """
    before = job.past.by_variant("built")
    with contextlib.ExitStack() as held:
        built = [
            _built_again(job, variant, before[variant.name], held)
            if variant.name in before
            else _built(job, variant, held)
            for variant in job.config.variants
        ]
        job.artifacts.enter_context(held.pop_all())
    return built


def _built(job: Job, variant: VariantConfig, held: contextlib.ExitStack) -> Built:
    made = _held(build_one(variant, job.prepared, job.base, job.reporter, job.config.measure), held)
    facts: dict[str, Any] = {"status": made.status, "reason": made.reason, "from_cache": made.from_cache}
    if made.folder is None:
        note = backend(variant.backend).note(variant.precision or "", ())
    else:
        manifest = made.variant.manifest
        note = manifest.note
        facts["folder"] = str(made.folder)
        write_json(job.folder / "variants" / made.name / MANIFEST, manifest.to_dict())
    if job.provider and variant.backend != "tensorrt":
        note = ""  # notes speak of the processor; they would be wrong of a GPU
    job.journal.write("built", variant=made.name, note=note, **facts)
    return made


def _held(made: Built, held: contextlib.ExitStack) -> Built:
    """What was built, its artifact kept in the cache."""
    if made.folder is not None:
        held.enter_context(in_use(made.folder))
    return made


def _built_again(job: Job, variant: VariantConfig, before: Mapping[str, Any], held: contextlib.ExitStack) -> Built:
    """A variant as it was built before the interruption; where its artifact is gone from the cache, the same one built again."""
    made = built_before(variant, before)
    if made is None:
        made = build_one(variant, job.prepared, job.base, job.reporter, job.config.measure)
    _held(made, held)
    if before["status"] != "ok":
        return made
    measured = Variant.read(job.folder / "variants" / variant.name).manifest.sha256
    if made.status != "ok" or made.variant.manifest.sha256 != measured:
        raise ConfigError(
            f"{variant.name} is no longer in the cache as it was measured, and building it again gave "
            f"{'another artifact' if made.status == 'ok' else made.reason}; start the run again"
        )
    return made


def check_stage(job: Job, usable: Sequence[Built]) -> list[Checked]:
    """Every variant checked, its answers written; a check that an interrupted run had finished is not made again."""
    before = job.past.by_variant("checked")
    if usable and all(made.name in before for made in usable):
        checked = [_checked_before(before[made.name]) for made in usable]
    else:
        checked = _checked(job, usable)
        _write_answers(job.folder, checked)
        for each in checked:
            if each.name not in before:
                _tell_checked(job.journal, each)
            for sentence in device_sentences(each.name, each.device):
                job.reporter.tell(sentence)
    shutil.rmtree(job.folder / CHECKS, ignore_errors=True)
    return checked


def _checked(job: Job, usable: Sequence[Built]) -> list[Checked]:
    with job.reporter.stage(f"checking {len(usable)} variants") as progress:
        return check_all(
            usable,
            job.prepared,
            job.shapes,
            threads=job.config.measure.threads,
            provider=job.provider,
            progress=progress,
            kept=job.folder / CHECKS,
        )


def _tell_checked(journal: Journal, each: Checked) -> None:
    journal.write(
        "checked",
        variant=each.name,
        failure=each.failure,
        call_ms=each.call_ms,
        peak_bytes=each.peak_bytes,
        near_ties=list(each.near_ties),
        device=each.device,
    )


def _checked_before(event: Mapping[str, Any]) -> Checked:
    """A check as the journal tells of it: without the answers, which are in the run's files."""
    return Checked(event["variant"], dict(event["call_ms"]), event["peak_bytes"], failure=event["failure"])


def _write_answers(folder: Path, checked: Sequence[Checked]) -> None:
    classes = {each.name: each.answers for each in checked if isinstance(each.answers, ClassPredictions)}
    windows = {each.name: each.answers for each in checked if isinstance(each.answers, WindowScores)}
    write_class_predictions(folder, classes)
    write_window_scores(folder, windows)
    write_generations(folder, {each.name: each.generations for each in checked if each.generations is not None})


def measure(job: Job, built: Sequence[Built]) -> None:
    """Check and weigh the variants that were built; what fails meanwhile is in the journal."""
    usable = [made for made in built if made.status == "ok"]
    with job.artifacts, only_one_weighs(job.reporter.tell):
        checked = check_stage(job, usable)
        fine = {each.name: each for each in checked if not each.failure}
        contenders = _contenders(job.config, [made for made in usable if made.name in fine])
        weighed = _weighed(job, contenders, fine) if contenders else Weighed()
    job.journal.write("weighed", sampling_seconds=weighed.sampling_seconds, failed=weighed.failed)


def _weighed(job: Job, contenders: Sequence[Contender], fine: Mapping[str, Checked]) -> Weighed:
    plan, groups = planned_before(job.folder, job.past) or _planned(job, contenders, fine)
    job.reporter.tell(plan.sentence())
    standing = {each.name: each for each in contenders}
    if {name for names in groups for name in names} != set(standing):
        raise InputError(
            f"{job.folder} is not a whole run folder: the plan in its journal is not for {', '.join(standing)}"
        )
    setting = Setting(
        prepared=job.prepared.folder,
        run_folder=job.folder,
        groups=tuple(tuple(standing[name] for name in names) for names in groups),
        threads=job.config.measure.threads,
        provider=job.provider,
        seed=job.config.workload.seed,
        visit_timeout_s=patience(plan),
    )
    facts = read_facts(job.folder)

    def decided(weighed: Weighed) -> bool:
        return judgement_of(facts, weighed.replicates, weighed.failed).decided

    before = weighed_before(job.folder, job.past)
    with job.reporter.stage("weighing") as progress:
        return weigh(setting, plan, job.journal, decided, progress, before=before)


def _planned(job: Job, contenders: Sequence[Contender], fine: Mapping[str, Checked]) -> tuple[Plan, list[list[str]]]:
    """Plan the weighing from the contenders' memory and from their checked call lengths, the control's included.

    Where they stand in groups, the baseline and the control are visited in each.
    """
    rules = rules_of(job.config.gates, job.prepared.kind)
    peaks = {each.name: each.peak_bytes for each in fine.values()}
    standing = groups_that_fit(contenders, peaks, environment.available_bytes())
    each_checked = [fine.get(each.name, fine[contenders[0].name]) for each in contenders]
    plan = make_plan(
        job.shapes,
        {key_of(shape): [each.call_ms[key_of(shape)] for each in each_checked] for shape in job.shapes},
        max_seconds=job.config.measure.max_seconds,
        looks=job.begun.looks,
        least_calls={
            key_of(shape): least_calls_for(rules, shape, job.config.measure.latency_limit) for shape in job.shapes
        },
        visits=[sum(each in group for group in standing) for each in contenders],
    )
    groups = [[each.name for each in group] for group in standing]
    job.journal.write("plan", groups=groups, **plan.facts())
    return plan, groups


def _contenders(config: Config, usable: Sequence[Built]) -> list[Contender]:
    """The baseline, its twin, then the candidates; without the baseline, whoever is left and no twin."""
    folders = {made.name: made.folder for made in usable if made.folder is not None}
    baseline = folders.pop(config.baseline.name, None)
    candidates = [Contender(name, folder) for name, folder in folders.items()]
    if baseline is None:
        return candidates
    return [Contender(config.baseline.name, baseline), Contender(CONTROL, baseline), *candidates]
