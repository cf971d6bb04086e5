"""A run from config to results: prepare, build, check, weigh, judge, write."""

import contextlib
import datetime
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..optimize.backends import backend
from ..optimize.errors import ConfigError, NotAvailableYetError
from ..optimize.files import write_json, write_text
from . import environment
from .building import Built, build
from .checks import Checked, check_all
from .child import Child
from .config import Config, MeasureConfig, parse_config, to_toml
from .derive import derive, judgement_of, read_facts
from .generated import write_generations
from .journal import Journal
from .metrics import Conditions
from .needed import data_sentences, examples_judged
from .plan import Plan, make_plan
from .predictions import ClassPredictions, WindowScores, write_class_predictions, write_window_scores
from .reporter import Reporter, Silent
from .results import Results, write_results
from .rules import ModelKind, Rule, least_calls_for, rules_of
from .samples import CONTROL, key_of
from .session import Contender, Setting, Weighed, groups_that_fit, only_one_weighs, weigh
from .workloads import builtin
from .workloads.base import Prepared

PREPARE_TIMEOUT_S = 3600.0
_QUICK_SECONDS = 8.0
_QUICK_EXAMPLES = 300


@dataclass(frozen=True)
class Options:
    """What a command may set beside the config.

    Attributes:
        out: the run folder; default runs/<date>-<name>.
        base: folder against which the config's relative paths are meant.
        quick: a fast look: at most 300 examples, four replicates, 8 seconds of sampling.
        max_seconds: instead of the config's.
        looks: at most so many looks at the verdicts (1: four replicates); None: as many as the budget buys.
        inconclusive: whether an undecided rule fails the run (exit 3) or is only told.
    """

    out: Path | None = None
    base: Path = Path()
    quick: bool = False
    max_seconds: float | None = None
    looks: int | None = None
    inconclusive: Literal["fail", "warn"] = "fail"


def run(config: Config, options: Options | None = None, reporter: Reporter | None = None) -> Results:
    """Build, weigh and judge the variants of a config; everything is in the run folder, `Results.folder`.

    Raises:
        ConfigError, InputError: the config or its files cannot be meant; nothing was written.
    """
    options, reporter = options or Options(), reporter or Silent()
    config = complete(config, options)
    folder = new_run_folder(options.out, config.workload.name)
    with prepared_workload(config, options, reporter) as prepared:
        return run_prepared(config, prepared, replace(options, out=folder), reporter)


def run_prepared(config: Config, prepared: Prepared, options: Options, reporter: Reporter) -> Results:
    """Run a complete config on a workload that is prepared already, into the folder `options.out`."""
    folder = options.out or Path()
    shapes = shapes_of(config, prepared)
    _tell_examples_needed(config, prepared, reporter)
    built = build_all(config, prepared, options, reporter)
    folder.mkdir(parents=True, exist_ok=True)
    journal = _write_raw(folder, config, prepared, built, options)
    _measure(folder, config, prepared, built, shapes, journal, options, reporter)
    results = derive(folder, inconclusive=options.inconclusive)
    write_results(results, folder)
    return results


def complete(config: Config, options: Options) -> Config:
    """Fill in default variants, the columns that rules slice by, and what the options change.

    Rules are checked against the variants' names again.
    """
    data = config.model_dump(mode="json", exclude_none=True)
    data["workload"]["columns"]["slices"] = list(config.sliced)
    if not config.variants:
        data["variants"] = list(default_variants(config))
    if options.max_seconds is not None:
        data["measure"]["max_seconds"] = options.max_seconds
    if options.quick:
        data["measure"]["max_seconds"] = min(_QUICK_SECONDS, data["measure"]["max_seconds"])
        data["workload"]["max_examples"] = min(_QUICK_EXAMPLES, data["workload"].get("max_examples", _QUICK_EXAMPLES))
    return parse_config(data, "config")


def default_variants(config: Config) -> Sequence[dict[str, object]]:
    """The variants of a config that names none: the built-in workload's, or torch FP32, ORT FP32 and ORT INT8."""
    if config.workload.builtin is not None:
        return builtin(config.workload.builtin).variants
    onnx: list[dict[str, object]] = [
        {"backend": "onnxruntime", "precision": "fp32"},
        {"backend": "onnxruntime", "precision": "int8"},
    ]
    if str(config.workload.model).endswith(".onnx"):
        return [{**onnx[0], "baseline": True}, onnx[1]]
    return [{"backend": "torch", "precision": "fp32", "baseline": True}, *onnx]


def new_run_folder(out: Path | None, name: str) -> Path:
    """The folder of a new run; it is made when there is something to write.

    Raises:
        ConfigError: it exists and holds something.
    """
    if out is None:
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
        safe = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name)
        out = Path("runs") / f"{stamp}-{safe}"
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not an empty folder; nothing is overwritten. Give another --out.")
    return out.absolute()


@contextlib.contextmanager
def prepared_workload(config: Config, options: Options, reporter: Reporter) -> Iterator[Prepared]:
    """Prepare the workload's arrays in a child process, in a folder that lives as long as the block."""
    with tempfile.TemporaryDirectory(prefix="weighbridge-") as name:
        folder = Path(name) / "prepared"
        arguments = {
            "config": config.model_dump(mode="json", exclude_none=True),
            "folder": str(folder),
            "base": str(options.base.absolute()),
        }
        with reporter.stage(f"preparing {config.workload.name}") as progress, Child("prepare", threads=2) as child:
            child.call("prepare", arguments, timeout=PREPARE_TIMEOUT_S, progress=progress)
        prepared = Prepared.read(folder)
        yield prepared


def build_all(config: Config, prepared: Prepared, options: Options, reporter: Reporter) -> list[Built]:
    """Build every variant, each in a child process; one that fails or cannot run here costs only its own row."""
    built = []
    for variant in config.variants:
        with reporter.stage(f"building {variant.name}") as progress:
            made = build(variant, prepared, base=options.base.absolute(), threads=2, progress=progress)
            progress(1.0, "from cache" if made.from_cache else made.status)
        built.append(made)
    return built


def shapes_of(config: Config, prepared: Prepared) -> tuple[Conditions, ...]:
    """Every shape that is measured, as flat conditions; a batch size that the model has fixed is the only one."""
    measure = config.measure
    sizes = measure.batch_sizes if prepared.fixed_batch is None else (prepared.fixed_batch,)
    shapes: list[Conditions] = []
    for size in sizes:
        for length in prepared.lengths:
            shape: dict[str, int | float | str] = {"batch_size": size}
            if prepared.kind == "decoder":
                shape |= {"prompt_length": length, "max_new_tokens": measure.max_new_tokens}
            elif length:
                shape["sequence_length"] = length
            shapes += [{**shape, **load, "threads": measure.threads} for load in _loads(measure, prepared.kind)]
    return tuple(shapes)


def _loads(measure: MeasureConfig, kind: ModelKind) -> list[dict[str, int | float]]:
    """The ways in which calls arrive: from so many callers at once, then at each rate; one caller alone is not named.

    Raises:
        NotAvailableYetError: callers or rates are asked for a generator.
    """
    loads: list[dict[str, int | float]] = [
        {} if measure.concurrency == (1,) else {"concurrency": callers} for callers in measure.concurrency
    ]
    loads += [{"rate": int(rate) if rate.is_integer() else rate} for rate in measure.rates]
    if kind == "decoder" and loads != [{}]:
        raise NotAvailableYetError(
            "measure.concurrency and measure.rates are not available yet for generators; remove them"
        )
    return loads


def notices_of(config: Config, prepared: Prepared) -> list[str]:
    """Sentences about the run that a reader should see, known before it starts."""
    left_out = [size for size in config.measure.batch_sizes if prepared.fixed_batch not in (None, size)]
    fixed = f"The model takes batches of {prepared.fixed_batch} only; batch sizes {left_out} were not measured."
    return [*prepared.notices, *([fixed] if left_out else []), *environment.advice(config.measure.threads)]


def _tell_examples_needed(config: Config, prepared: Prepared, reporter: Reporter) -> None:
    """Say of every quality rule how many examples it needs, and of which class or slice there are too few."""
    labels = prepared.labels()
    if labels is None or prepared.kind == "decoder":
        return
    alpha = config.measure.error_rate / max(1, len(config.variants) - 1)
    judged = examples_judged(labels, prepared.class_names, prepared.slices())
    for sentence in data_sentences(rules_of(config.gates, prepared.kind), alpha, judged):
        reporter.tell(sentence)


def _write_raw(folder: Path, config: Config, prepared: Prepared, built: Sequence[Built], options: Options) -> Journal:
    """Write what is known before the weighing: config, environment, manifests, and the journal's first lines."""
    write_text(folder / "config.toml", to_toml(config))
    write_json(folder / "environment.json", environment.describe(options.base))
    journal = Journal(folder)
    journal.write(
        "prepared",
        kind=prepared.kind,
        class_names=list(prepared.class_names),
        examples=prepared.examples,
        drawn=prepared.drawn,
        source_sha256=prepared.source.sha256,
        data_sha256=prepared.data_sha256,
        calibration_sha256=prepared.calibration_sha256,
        notices=notices_of(config, prepared),
    )
    for made in built:
        facts = {"variant": made.name, "status": made.status, "reason": made.reason, "from_cache": made.from_cache}
        note = ""
        if made.folder is not None:
            manifest = made.variant.manifest
            note = manifest.note
            facts["folder"] = str(made.folder)
            write_json(folder / "variants" / made.name / "manifest.json", manifest.to_dict())
        else:
            note = backend(made.config.backend).note(made.config.precision or "", ())
        journal.write("built", note=note, **facts)
    return journal


def _measure(
    folder: Path,
    config: Config,
    prepared: Prepared,
    built: Sequence[Built],
    shapes: tuple[Conditions, ...],
    journal: Journal,
    options: Options,
    reporter: Reporter,
) -> None:
    """Check and weigh the variants that were built; what fails meanwhile is in the journal."""
    provider = "cuda" if config.measure.device == "cuda" else None
    usable = [made for made in built if made.status == "ok"]
    with only_one_weighs(reporter.tell):
        with reporter.stage(f"checking {len(usable)} variants") as progress:
            threads = config.measure.threads
            checked = check_all(usable, prepared, shapes, threads=threads, provider=provider, progress=progress)
        for each in checked:
            journal.write(
                "checked",
                variant=each.name,
                failure=each.failure,
                call_ms=each.call_ms,
                near_ties=list(each.near_ties),
            )
        _write_answers(folder, checked)
        fine = {each.name: each for each in checked if not each.failure}
        contenders = _contenders(config, [made for made in usable if made.name in fine])
        if not contenders:
            return
        rules = rules_of(config.gates, prepared.kind)
        weighed_calls = [fine.get(each.name, fine[contenders[0].name]) for each in contenders]
        plan = plan_of(config, rules, shapes, weighed_calls, options)
        journal.write("plan", **plan.facts())
        reporter.tell(plan.sentence())
        peaks = {each.name: each.peak_bytes for each in fine.values()}
        setting = Setting(
            prepared=prepared.folder,
            run_folder=folder,
            groups=groups_that_fit(contenders, peaks, environment.available_bytes()),
            threads=config.measure.threads,
            provider=provider,
            seed=config.workload.seed,
        )

        facts = read_facts(folder)

        def decided(weighed: Weighed) -> bool:
            return judgement_of(facts, weighed.replicates, weighed.failed).decided

        with reporter.stage("weighing") as progress:
            weighed = weigh(setting, plan, journal, decided, progress)
        journal.write("weighed", sampling_seconds=weighed.sampling_seconds, failed=weighed.failed)


def plan_of(
    config: Config,
    rules: Sequence[Rule],
    shapes: Sequence[Conditions],
    contenders: Sequence[Checked],
    options: Options,
) -> Plan:
    """Plan the weighing from the checked call lengths of the contenders, the control's included."""
    call_ms = {key_of(shape): [each.call_ms[key_of(shape)] for each in contenders] for shape in shapes}
    return make_plan(
        shapes,
        call_ms,
        max_seconds=config.measure.max_seconds,
        looks=1 if options.quick else options.looks,
        least_calls={key_of(shape): least_calls_for(rules, shape) for shape in shapes},
    )


def _contenders(config: Config, usable: Sequence[Built]) -> list[Contender]:
    """The baseline, its twin, then the candidates; without the baseline, whoever is left and no twin."""
    folders = {made.name: made.folder for made in usable if made.folder is not None}
    baseline = folders.pop(config.baseline.name, None)
    candidates = [Contender(name, folder) for name, folder in folders.items()]
    if baseline is None:
        return candidates
    return [Contender(config.baseline.name, baseline), Contender(CONTROL, baseline), *candidates]


def _write_answers(folder: Path, checked: Sequence[Checked]) -> None:
    classes = {each.name: each.answers for each in checked if isinstance(each.answers, ClassPredictions)}
    windows = {each.name: each.answers for each in checked if isinstance(each.answers, WindowScores)}
    write_class_predictions(folder, classes)
    write_window_scores(folder, windows)
    write_generations(folder, {each.name: each.generations for each in checked if each.generations is not None})
