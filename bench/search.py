"""Search for the lightest variant that keeps its quality: sensitivity of each layer, rollback, and a run that judges the choice.

All choices rest on one half of the evaluation data (search_split.py); the run at the end weighs and judges what was chosen on the
other half, by the ordinary road, in the same folder.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..optimize.cache import in_use
from ..optimize.errors import BuildError, ConfigError, InputError
from ..optimize.files import write_json
from ..optimize.plain_data import checked, parse_json
from .building import build
from .checks import check
from .config import Config, VariantConfig, parse_config
from .predictions import ClassPredictions, WindowScores
from .reporter import Reporter, Silent
from .results import Results
from .resuming import forget, hashes_of, is_begun, need_same_material, plain, read_past
from .running import Options, alone, complete, new_run_folder, prepared_workload, run_prepared, shapes_of
from .running import resume as derived_again
from .search_answers import reference_of
from .search_choice import Found, explore, finalists, front, sensitivity_of
from .search_config import Wanted, final_config, metric_of, searched_variant
from .search_findings import FOLDER, Bounded, FrontRow, Phase, Search, perplexity_change, write_search
from .search_outcome import Budget, Outcome, Record, typical
from .search_split import Parts, expected_sentence, split
from .search_trials import Setting, Trials
from .stages import provider_of
from .workloads.base import Prepared

_ASKED = "search.json"
_FINALISTS = 3
"""So many more of the front are weighed beside the baseline, the whole quantized variant and the chosen one: each takes its share of the
run's error rate."""
_LONGEST_STEM = 60


def search(
    config: Config, wanted: Wanted | None = None, options: Options | None = None, reporter: Reporter | None = None
) -> Results:
    """Search the layers of one variant of a config, then weigh and judge what was chosen; `Results.search` tells of it.

    Raises:
        ConfigError, InputError: there is nothing that could be searched; nothing was written.
        BuildError: the baseline, the whole quantized variant or its float model cannot be built or answers nothing.
    """
    wanted, options = wanted or Wanted(), options or Options()
    config = complete(config, options)
    searched_variant(config, wanted.variant)
    folder = new_run_folder(options.out, config.workload.name)
    return _search(config, wanted, replace(options, out=folder), reporter or Silent())


def resume(
    run_folder: Path, max_seconds: float | None = None, options: Options | None = None, reporter: Reporter | None = None
) -> Results:
    """Go on with an interrupted search by what it was asked for; `max_seconds` may be another, trials made before count.

    Of a search that is finished, by the journal of its judging run, the results are derived again.

    Raises:
        InputError: the folder holds no search, or another process is at work on it.
        ConfigError: the model or the data is no longer what was searched, or a finished search is given more time.
    """
    asked = _asked(run_folder)
    with alone(run_folder, FOLDER):
        finished = read_past(run_folder).finished
    if finished:
        _need_no_time(run_folder, max_seconds)
        return derived_again(run_folder, options.inconclusive if options else None, reporter)
    wanted = asked.wanted
    if max_seconds is not None:
        wanted = replace(wanted, max_seconds=max_seconds)
    config = parse_config(asked.config, _ASKED)
    options = replace(options or Options(), out=run_folder.absolute(), base=Path(asked.base))
    return _search(config, wanted, options, reporter or Silent(), asked.hashes)


def _need_no_time(run_folder: Path, max_seconds: float | None) -> None:
    """Refuse time for trials that nobody would make."""
    if max_seconds is not None:
        raise ConfigError(
            f"{run_folder} is finished, and its trials with it: leave out --max-seconds to have its results derived again, or start "
            "another search, which takes the builds of this one from the cache"
        )


def most_weighed() -> int:
    """At most so many variants are weighed at the end: the baseline, the whole quantized one, the chosen one, and more of the front."""
    return 3 + _FINALISTS


def _search(
    config: Config, wanted: Wanted, options: Options, reporter: Reporter, hashes: Mapping[str, Any] | None = None
) -> Results:
    folder = options.out or Path()
    with prepared_workload(config, options, reporter) as prepared:
        parts = split(prepared, prepared.folder.parent, config.workload.seed)
        if hashes is not None:
            need_same_material(prepared, hashes, "search")
        if prepared.kind == "classifier":
            reporter.tell(expected_sentence(parts.judging.examples, _judging_error(config)))
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        with alone(folder, FOLDER):  # the run that judges holds the folder itself
            _write_asked(folder, config, wanted, options, prepared)
            return _searched(config, wanted, parts, options, reporter)


def _searched(config: Config, wanted: Wanted, parts: Parts, options: Options, reporter: Reporter) -> Results:
    """Make the trials, write what they found, and have what was chosen weighed and judged."""
    folder = options.out or Path()
    explored = _explored(config, wanted, parts, options, reporter)
    findings = explored.findings()
    reporter.tell(findings.sentences[0])
    write_search(findings, folder)
    kept = {name: each.kept for name, each in explored.weighed.items()}
    final = final_config(config, parts.judging.kind, wanted.max_drop, explored.setting.searched, kept, explored.chosen)
    if not is_begun(folder, final):
        forget(folder)  # a judging run of what an earlier part of the search had chosen
    return run_prepared(final, parts.judging, replace(options, out=folder), reporter)


def _judging_error(config: Config) -> float:
    """The error rate of one verdict of the run that judges, where all are weighed that may be."""
    return config.measure.error_rate / (_FINALISTS + 2)


def _explored(config: Config, wanted: Wanted, parts: Parts, options: Options, reporter: Reporter) -> "_Explored":
    """Make the trials, and choose by them."""
    answers = _baseline_answers(config, parts.choosing, options, reporter)
    setting = Setting(
        folder=(options.out or Path()) / FOLDER,
        searched=searched_variant(config, wanted.variant),
        parts=parts,
        conditions=shapes_of(config, parts.choosing)[0],
        base=options.base.absolute(),
        provider=provider_of(config.measure),
        seed=config.workload.seed,
        max_seconds=wanted.max_seconds,
    )
    with Trials(setting, reporter) as trials:
        made = _Made(trials, answers, parts.choosing)
        layers = _layers(trials)
        budget = _budget(config, wanted, parts.choosing)
        if budget.metric == "perplexity":
            reporter.tell(_expected_of_windows(made.whole, budget.error))
        found = explore(layers, made.whole, made.measure, budget, _floor(made.control))
    return _Explored(setting, budget, layers, made, found, trials.seconds)


def _budget(config: Config, wanted: Wanted, choosing: Prepared) -> Budget:
    """The budget; windows of text are few and tell much each, so that their bound can be as strict as the judging run's."""
    if metric_of(choosing.kind) == "accuracy":
        return Budget(wanted.max_drop, choosing.examples)
    return Budget(wanted.max_drop, choosing.examples, "perplexity", _judging_error(config))


def _expected_of_windows(whole: Outcome, error: float) -> str:
    room = whole.difference.value - whole.answers.least_difference(error)
    return (
        f"{whole.examples} windows of text bound the perplexity of the whole variant to {100 * math.expm1(room):.2f} % above what they "
        "show; as many are left to judge on."
    )


@dataclass(frozen=True)
class _Explored:
    """A search that came to its end."""

    setting: Setting
    budget: Budget
    layers: tuple[str, ...]
    made: "_Made"
    found: Found
    seconds: float

    @cached_property
    def front(self) -> list[Outcome]:
        """The trials that none beats beyond the intervals."""
        return front(list(self.made.outcomes.values()))

    @cached_property
    def weighed(self) -> dict[str, Outcome]:
        """By name, the trials to be weighed: the whole quantized one, the chosen one, and more of the front."""
        taken = (self.made.whole, self.found.best)
        return dict(_named(self.setting.searched, [*taken, *finalists([*self.front, *taken], taken, _FINALISTS)]))

    @property
    def chosen(self) -> str:
        """The name of the chosen variant."""
        return next(name for name, each in self.weighed.items() if each.number == self.found.best.number)

    def findings(self) -> Search:
        """The search as it is reported."""
        parts, whole = self.setting.parts, self.made.whole
        names = {each.number: name for name, each in self.weighed.items()}
        return Search(
            searched=self.setting.searched.name,
            chosen=self.chosen,
            met=self.found.met,
            max_drop=self.budget.max_drop,
            max_seconds=self.setting.max_seconds,
            seconds=self.seconds,
            choosing=parts.choosing.examples,
            judging=parts.judging.examples,
            control=self.made.control,
            sentences=tuple(_sentences(self)),
            sensitivity=tuple(sensitivity_of(each, whole) for each in self.found.sensitivity),
            ledger=tuple(step.row(number) for number, step in enumerate(self.found.steps, 1)),
            front=tuple(_front_row(each, names.get(each.number, "")) for each in self.front),
            trials=tuple(each.row() for _, each in sorted(self.made.outcomes.items())),
            metric=self.budget.metric,
        )


class _Made:
    """The trials made so far as outcomes: the whole quantized variant and its float model first, then whatever is asked for."""

    def __init__(self, trials: Trials, baseline: ClassPredictions | WindowScores, part: Prepared) -> None:
        self._trials = trials
        records = [self._needed("whole"), self._needed("float")]
        whole, dense = records
        self._reference = reference_of(baseline, part, trials.place(dense))
        self._whole_ms = whole.whole_ms
        self.outcomes: dict[int, Outcome] = {}
        for record in records:
            self._add(record)
        self.whole = self.outcomes[whole.number]
        twin = typical(np.array(whole.log_ratios))
        self.control = Bounded(*np.exp([twin.value, twin.low, twin.high]).tolist())

    def measure(self, kept: tuple[str, ...], phase: Phase) -> Outcome | None:
        """Make a trial, or remember it; None where the time budget has ended."""
        record = self._trials.take(kept, phase)
        return None if record is None else self._add(record)

    def _add(self, record: Record) -> Outcome:
        if record.number not in self.outcomes:
            reference = self._reference
            answers = reference.none() if record.reason else reference.answers(self._trials.place(record))
            self.outcomes[record.number] = Outcome.of(record, answers, self._whole_ms)
        return self.outcomes[record.number]

    def _needed(self, phase: Phase) -> Record:
        record = self._trials.take((), phase)
        if record is None or record.reason:
            raise BuildError(
                f"the search has no {phase} variant to start from: {record.reason if record else 'no time'}"
            )
        return record


def _baseline_answers(
    config: Config, part: Prepared, options: Options, reporter: Reporter
) -> ClassPredictions | WindowScores:
    """What the baseline answers on the choosing part.

    Raises:
        BuildError: it cannot be built, or answers nothing.
    """
    with reporter.stage(f"the baseline {config.baseline.name}") as progress:
        made = build(config.baseline, part, base=options.base.absolute(), threads=2, progress=progress)
        failure = made.reason
        if made.folder is not None:
            shapes, measured = shapes_of(config, part)[:1], config.measure
            with in_use(made.folder):
                checked = check(made, part, shapes, threads=measured.threads, provider=provider_of(measured))
            if checked.answers is not None:
                return checked.answers
            failure = checked.failure
    raise BuildError(f"the baseline {config.baseline.name}, which the search compares with, failed: {failure}")


def _layers(trials: Trials) -> tuple[str, ...]:
    """The layers that the whole quantized variant holds in integers, in graph order, as its manifest names them.

    Raises:
        BuildError: it names none.
    """
    whole = trials.whole()
    steps = whole.variant.manifest.steps
    layers = tuple(steps[-1].details.get("layers_quantized", ())) if steps else ()
    if not layers:
        raise BuildError(f"the manifest of {whole.name} names no quantized layers that could be left in float")
    return layers


def _floor(control: Bounded) -> float:
    """How far apart two copies of one variant may seem, as a share of a call's time."""
    return max(control.high - 1, 1 - control.low)


def _named(searched: VariantConfig, chosen: Sequence[Outcome]) -> Iterator[tuple[str, Outcome]]:
    """A name for each trial, once: by how many layers it keeps, and by its number where that is not enough."""
    stem, taken = searched.name[:_LONGEST_STEM], set[str]()
    for each in {each.number: each for each in chosen}.values():
        name = f"{stem}-keep-{len(each.kept)}" if each.kept else searched.name
        name = f"{name}-trial-{each.number}" if name in taken else name
        taken.add(name)
        yield name, each


def _front_row(outcome: Outcome, variant: str) -> FrontRow:
    return FrontRow(outcome.number, variant, outcome.kept, outcome.ms, outcome.difference, outcome.examples)


def _sentences(explored: _Explored) -> Iterator[str]:
    """What came of the search, in words."""
    found, budget, layers = explored.found, explored.budget, explored.layers
    best, drop = found.best, 100 * budget.max_drop
    kept = f"{len(best.kept)} of {len(layers)} layers in float" if best.kept else f"all {len(layers)} layers quantized"
    answer = "keeps the budget" if found.met else "comes nearest to the budget, which none kept,"
    yield f"{explored.chosen} ({kept}) {answer} of {_loss_in_words(best, budget)} against the baseline."
    if not budget.provable:
        yield (
            f"{budget.examples:,} choosing examples cannot show a loss below {drop:g} points even where no answer changes, so that "
            "bare estimates were held to the budget; the verdict on the judging part is likely to stay open."
        )
    if not found.complete:
        tried = len(found.sensitivity)
        yield (
            f"The time budget ended before the search did ({tried} of {len(layers)} layers were tried alone): "
            "a search with more --max-seconds takes the builds of this one from the cache."
        )


def _loss_in_words(best: Outcome, budget: Budget) -> str:
    """The budget, and what a trial lost of it: accuracy in points, or perplexity added in percent."""
    found, drop = best.difference, 100 * budget.max_drop
    if budget.metric == "accuracy":
        value, low, high = (100 * each for each in (found.value, found.low, found.high))
        return f"{drop:g} points on {best.examples:,} choosing examples: accuracy {value:+.2f} [{low:+.2f}, {high:+.2f}] points"
    change = perplexity_change(found)
    value, low, high = (100 * each for each in (change.value, change.low, change.high))
    return f"{drop:g} % on {best.examples:,} choosing windows of text: perplexity {value:+.2f} % [{low:+.2f} %, {high:+.2f} %]"


def _write_asked(folder: Path, config: Config, wanted: Wanted, options: Options, prepared: Prepared) -> None:
    write_json(
        folder / FOLDER / _ASKED,
        asdict(_Asked(wanted, str(options.base.absolute()), hashes_of(prepared), plain(config))),
    )


@dataclass(frozen=True)
class _Asked:
    """What a search was asked for, and the hashes of what it was made with."""

    wanted: Wanted
    base: str
    hashes: dict[str, str | None]
    config: dict[str, Any]


def _asked(run_folder: Path) -> _Asked:
    """What the search in a folder was asked for."""
    path = run_folder / FOLDER / _ASKED
    try:
        return checked(_Asked, parse_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{run_folder} holds no search ({error}); give a folder that `weighbridge search` wrote"
        ) from error
