"""A run from config to results: prepare, build, check, weigh, judge, write."""

import contextlib
import datetime
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..optimize.errors import ConfigError, InputError, NotAvailableYetError
from ..optimize.files import holding, remove_abandoned, work_folder
from . import environment
from .building import Built
from .child import Child
from .config import Config, MeasureConfig, parse_config
from .derive import derive
from .journal import JOURNAL
from .metrics import END_TO_END, METRICS, Conditions, ModelKind
from .needed import data_sentences, examples_judged
from .reporter import Reporter, Silent
from .results import Results, write_results
from .resuming import Begun, begun, forget, plain, read_past
from .rules import rules_of
from .search_findings import FOLDER as SEARCH
from .stages import Job, begin, build_one, build_stage, go_on, measure
from .workloads import builtin, task_of
from .workloads.base import Prepared
from .workloads.own_data import check_builtin

PREPARE_TIMEOUT_S = 3600.0
_QUICK_SECONDS = 8.0
_QUICK_EXAMPLES = 300
_LONGEST_NAME = 50
"""Letters of a workload's name that its run folder's has: a file system takes 255 bytes."""


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


def resume(
    run_folder: Path, inconclusive: Literal["fail", "warn"] | None = None, reporter: Reporter | None = None
) -> Results:
    """Finish an interrupted run by its journal: what is built, checked and weighed is not done again.

    Of a run that is finished the results are derived again. `inconclusive` may be another than the run was begun with.

    Raises:
        InputError: the folder holds no run that could be gone on with, or another process is at work on it.
        ConfigError: the model, the data, the machine or its software is not what the run was begun with.
    """
    reporter = reporter or Silent()
    folder = run_folder.absolute()
    if not (folder / JOURNAL).is_file():
        raise InputError(
            f"{run_folder} is not a run folder: it has no {JOURNAL}. Give a folder that `weighbridge run` wrote."
        )
    with alone(folder):
        past = read_past(folder)
    first = begun(folder, past)
    inconclusive = inconclusive or first.inconclusive
    if past.finished:
        remove_abandoned()  # the process may have been killed just before it did so
        reporter.tell(f"{run_folder} is finished: nothing is done again but its results.")
        return _derived(folder, inconclusive)
    if (folder / SEARCH).is_dir():
        raise InputError(f"{run_folder} is a search: `weighbridge search --resume {run_folder}` goes on with it")
    config = parse_config(first.config, JOURNAL)
    options = Options(folder, Path(first.base), looks=first.looks, inconclusive=inconclusive)
    with prepared_workload(config, options, reporter) as prepared:
        return run_prepared(config, prepared, options, reporter)


def run_prepared(config: Config, prepared: Prepared, options: Options, reporter: Reporter) -> Results:
    """Run a complete config on a workload that is prepared already, into the folder `options.out`.

    Where that holds an interrupted run, it is gone on with.
    """
    folder = options.out or Path()
    shapes = weighed_shapes(config, prepared)
    lacking = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        past = read_past(folder)
        asked = _begun(config, options) if past.first("begun") is None else begun(folder, past)
        job = Job(folder, config, prepared, shapes, asked, past, reporter)
        measure(job, _built(job, lacking))
        return _derived(folder, options.inconclusive)


def _built(job: Job, made: Sequence[Path]) -> list[Built]:
    """Begin, or go on, and build; where bad input ends a new run here, the folders that were `made` for it are taken away again."""
    try:
        _begin(job)
        return build_stage(job)
    except (ConfigError, InputError):
        if not job.past.events:
            forget(job.folder)
            for place in made:
                place.rmdir()
        raise


def _begun(config: Config, options: Options) -> Begun:
    looks = 1 if options.quick else options.looks
    return Begun(plain(config), str(options.base.absolute()), looks, options.inconclusive)


def _begin(job: Job) -> None:
    """Write the journal's first lines, and say what the rules need; or say what an interrupted run goes on with."""
    if not job.past.events:
        job.journal.write("begun", **vars(job.begun))
    if job.past.first("prepared") is None:
        _tell_examples_needed(job.config, job.prepared, job.reporter)
        begin(job, notices_of(job.config, job.prepared))
    else:
        go_on(job)


def _derived(folder: Path, inconclusive: Literal["fail", "warn"]) -> Results:
    results = derive(folder, inconclusive=inconclusive)
    write_results(results, folder)
    return results


@contextlib.contextmanager
def alone(run_folder: Path, part: str = "") -> Iterator[None]:
    """Hold a run's folder, or a part of it.

    Raises:
        InputError: another process is at work on it.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(holding(run_folder / part))
        except BlockingIOError as error:
            raise InputError(f"another process is at work on {run_folder}; wait for it to end") from error
        yield


def complete(config: Config, options: Options) -> Config:
    """Fill in default variants, what a built-in workload decides, the columns that rules slice by, and what the options change.

    Rules are checked against the variants' names again.

    Raises:
        ConfigError: the built-in workload does not take what is given to it, or a rule names a variant that is not there.
    """
    data = config.model_dump(mode="json", exclude_none=True)
    data["workload"]["columns"]["slices"] = list(config.sliced)
    if config.workload.builtin is not None:
        chosen = check_builtin(config.workload)
        data["workload"]["task"] = chosen.task
        data["measure"] |= chosen.measure_defaults(config.measure.model_fields_set)
    data["measure"]["end_to_end"] = _end_to_end(config)
    if not config.variants:
        data["variants"] = list(default_variants(config))
    if options.max_seconds is not None:
        data["measure"]["max_seconds"] = options.max_seconds
    if options.quick:
        data["measure"]["max_seconds"] = min(_QUICK_SECONDS, data["measure"]["max_seconds"])
        data["workload"]["max_examples"] = min(_QUICK_EXAMPLES, data["workload"].get("max_examples", _QUICK_EXAMPLES))
    return parse_config(data, "config")


def _end_to_end(config: Config) -> bool:
    """Whether calls from raw inputs are timed: where the config says so, or a rule of a classifier needs them.

    Raises:
        ConfigError: it is asked of a generator.
    """
    decoder = kind_of(config) == "decoder"
    if decoder and config.measure.end_to_end:
        raise ConfigError(
            "measure.end_to_end is for classifiers; a generator's requests are timed as `e2e_latency`, from tokens on. Remove it"
        )
    return config.measure.end_to_end or (not decoder and any(METRICS[rule.metric].raw for rule in config.gates.rules))


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
        out = dated_folder(Path("runs"), name)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not an empty folder; nothing is overwritten. Give another --out.")
    return out.absolute()


def dated_folder(parent: Path, name: str) -> Path:
    """A folder in `parent` for a run that starts now, named after its workload; the second of a second has a number too."""
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    safe = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in name[:_LONGEST_NAME])
    names = itertools.chain([f"{stamp}-{safe}"], (f"{stamp}-{safe}-{number}" for number in itertools.count(2)))
    return next(parent / each for each in names if not (parent / each).exists())


@contextlib.contextmanager
def prepared_workload(config: Config, options: Options, reporter: Reporter) -> Iterator[Prepared]:
    """Prepare the workload's arrays in a child process, in a folder that lives as long as the block."""
    with work_folder() as place:
        folder = place / "prepared"
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
    base = options.base.absolute()
    return [build_one(variant, prepared, base, reporter, config.measure) for variant in config.variants]


def shapes_of(config: Config, prepared: Prepared) -> tuple[Conditions, ...]:
    """Every shape that is measured, as flat conditions; a batch size that a model of the run has fixed is the only one."""
    sizes = config.measure.batch_sizes if prepared.fixed_batch is None else (prepared.fixed_batch,)
    return _shapes(config.measure, prepared.kind, sizes, prepared.lengths)


def weighed_shapes(config: Config, prepared: Prepared) -> tuple[Conditions, ...]:
    """Every shape that is weighed: those that are measured and, where it is asked for, from end to end those of a caller alone."""
    return _and_from_end_to_end(config, shapes_of(config, prepared))


def planned_shapes(config: Config) -> tuple[Conditions, ...]:
    """Every shape that a run of a complete config would weigh, as far as that is known before its model."""
    return _and_from_end_to_end(config, asked_shapes(config))


def _and_from_end_to_end(config: Config, shapes: tuple[Conditions, ...]) -> tuple[Conditions, ...]:
    lonely = [shape for shape in shapes if "rate" not in shape and shape.get("concurrency", 1) == 1]
    return (*shapes, *({**shape, END_TO_END: 1} for shape in lonely if config.measure.end_to_end))


def asked_shapes(config: Config) -> tuple[Conditions, ...]:
    """Every shape that a config asks for; what the model has fixed is known only when the workload is prepared."""
    measure = config.measure
    lengths = {"text-generation": measure.prompt_lengths, "text-classification": measure.sequence_lengths}
    return _shapes(measure, kind_of(config), measure.batch_sizes, lengths.get(str(task_of(config.workload)), (0,)))


def kind_of(config: Config) -> ModelKind:
    """What kind of model a config weighs."""
    return "decoder" if task_of(config.workload) == "text-generation" else "classifier"


def _shapes(
    measure: MeasureConfig, kind: ModelKind, sizes: Sequence[int], lengths: Sequence[int]
) -> tuple[Conditions, ...]:
    loads = _loads(measure, kind)
    return tuple(
        {"batch_size": size, **extent, **load, "threads": measure.threads}
        for size in sizes
        for length in lengths
        for extent in _extents(measure, kind, length)
        for load in loads
    )


def _extents(measure: MeasureConfig, kind: ModelKind, length: int) -> list[dict[str, int]]:
    """How much text a call takes and gives; nothing for images and tables, whose length is 0."""
    if kind == "decoder":
        return [{"prompt_length": length, "max_new_tokens": new} for new in measure.output_lengths]
    return [{"sequence_length": length}] if length else [{}]


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
    fixed = (
        f"A model of this run takes batches of {prepared.fixed_batch} only; batch sizes {left_out} were not measured."
    )
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
