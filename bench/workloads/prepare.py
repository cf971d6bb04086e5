"""Prepare a workload in a child process: from config and files to the arrays that are weighed (base.py)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ...optimize.errors import ConfigError, InputError
from ...optimize.factory import is_built
from ...optimize.loading import describe, transformers_config
from ...optimize.model import Signature
from ...optimize.source import Source, SourceKind
from ..child import Progress
from ..config import MeasureConfig, WorkloadConfig
from . import builtin, task_of
from .base import Part, Prepared, array_file, hash_of_arrays, need_room
from .common_signature import common_signature
from .data import TABLES, Rows, kind_of
from .drawn import draw
from .encode import Encoder
from .fake import prepare_fake
from .generator import Texts, prepare_generator
from .given import calibration_file, read_calibration, read_evaluation
from .labels import class_names_of, encode
from .own_data import own_data
from .raw_inputs import write_raw

_EXCERPT = 200
_OVERLAP_REFUSED = 0.5


def prepare(
    config: WorkloadConfig,
    measure: MeasureConfig,
    folder: Path,
    progress: Progress,
    *,
    base: Path,
    artifacts: Sequence[str] = (),
) -> Prepared:
    """Prepare a workload in `folder`; relative paths of the config are meant against `base`.

    `artifacts` are weighed beside the model: what one of them has fixed, such as the batch, is fixed for the whole run.

    Raises:
        ConfigError, InputError: the config or its files cannot be meant.
    """
    model = str(config.model)
    if model.endswith(".fake.json"):
        return prepare_fake(config, base / model, folder)
    _check_slices(config)
    beside = [base / each for each in artifacts]
    if config.builtin is not None:
        return prepare_builtin(config, measure, folder, progress, base, beside)
    source = source_of(config, base)
    signature = common_signature(source, beside)
    need_room(signature, 1)
    if config.data is None:
        if measure.end_to_end:
            raise ConfigError(
                "latency_end_to_end_p50 counts what is done to texts or pixels before the model, and there are none: set "
                "[workload] data, or remove measure.end_to_end and the rules on it"
            )
        return draw(config, source, signature, measure, folder)
    if source.task == "text-generation":
        data = base / config.data
        texts = Texts(_tokenizer_of(config, source, base), data, calibration_file(config, base))
        return prepare_generator(config, measure, source, texts, folder)
    return prepare_classifier(config, measure, source, signature, folder, progress, base)


def _tokenizer_of(config: WorkloadConfig, source: Source, base: Path) -> str:
    """The folder or hub id of a generator's tokenizer: the model's own, unless another is named."""
    if config.tokenizer is None:
        return source.reference
    folder = base / config.tokenizer
    return str(folder) if folder.exists() else config.tokenizer


def _check_slices(config: WorkloadConfig) -> None:
    """Refuse slices of what has no columns."""
    if not config.columns.slices:
        return
    named = f"slice = '{config.columns.slices[0]}'"
    if config.data is None:
        raise ConfigError(f"{named}: a slice is a column of workload.data, and none is given; remove the slice")
    if task_of(config) == "text-generation" or kind_of(Path(config.data)) not in TABLES:
        raise InputError(
            f"{named}: {config.data} has no columns to slice by; only a classifier's table has "
            f"({', '.join(TABLES)}, also .gz). Remove the slice"
        )


def prepare_builtin(
    config: WorkloadConfig,
    measure: MeasureConfig,
    folder: Path,
    progress: Progress,
    base: Path,
    artifacts: Sequence[Path] = (),
) -> Prepared:
    """Make (or take from the cache) a built-in workload's model and data, then prepare them as any other.

    Raises:
        ConfigError, InputError: what the user brings instead of its own cannot be meant, or cannot be learnt from.
    """
    own = own_data(config, base)
    made = builtin(str(config.builtin)).make(own.request, progress)
    if made.source.task == "text-generation":
        texts = Texts(made.source.reference, own.table or made.evaluation_file, made.calibration_file)
        prepared = prepare_generator(config, measure, made.source, texts, folder)
    else:
        signature = common_signature(made.source, artifacts)
        material = Material(config, measure, made.source, signature, folder, made.tokenizer)
        prepared = material.write(made.evaluation, made.calibration, made.class_names)
    if own.notice:
        prepared = replace(prepared, notices=(own.notice, *prepared.notices))
        prepared.write()
    return prepared


def source_of(config: WorkloadConfig, base: Path) -> Source:
    """The source of the config's model: an .onnx file, a factory or a folder built from one, a transformers folder, a hub id."""
    model, task = str(config.model), config.task
    if task is None:
        raise ConfigError("workload.task is missing")
    path = base / model
    kind: SourceKind = "transformers"
    if model.endswith(".onnx"):
        return describe("onnx", str(path), task)
    if ":" in model and not path.exists():
        return describe("module", model, task, search_path=str(base.absolute()))
    if is_built(path):
        return describe("module", str(path), task)
    if path.is_file():
        raise InputError(
            f"model {path} is a file of another kind. Allowed: .onnx, a transformers folder, package.module:factory"
        )
    return describe(kind, str(path) if path.exists() else model, task)


@dataclass(frozen=True)
class Material:
    """What turns rows into a classifier's arrays: its config, source and signature."""

    config: WorkloadConfig
    measure: MeasureConfig
    source: Source
    signature: Signature
    folder: Path
    tokenizer: str | None = None

    def write(self, evaluation: Rows, calibration: Rows | None, names: Sequence[str] | None = None) -> Prepared:
        """Encode and write both parts and prepared.json."""
        evaluation = self._limited(evaluation)
        names = tuple(names) if names else self._class_names(evaluation)
        self._write_part("evaluation", evaluation, names)
        notices: list[str] = []
        if calibration is not None:
            self._write_part("calibration", calibration, names)
            notices += self._overlap()
        excerpts = [text[:_EXCERPT] for text in evaluation.texts or ()]
        if excerpts:
            (self.folder / "evaluation" / "excerpts.json").write_text(json.dumps(excerpts), encoding="utf-8")
        if self._lengths() not in ((0,), self.measure.sequence_lengths):
            notices.append(
                f"A model of this run takes sequences of {self._lengths()[0]} tokens only; no other length was measured."
            )
        if evaluation.labels is None:
            notices.append("The evaluation data has no labels: accuracy not judged.")
        prepared = Prepared(
            folder=self.folder,
            name=self.config.name,
            task=self.source.task,
            kind="classifier",
            source=self.source,
            class_names=names,
            lengths=self._lengths(),
            examples=len(evaluation),
            drawn=False,
            fixed_batch=self.signature.inputs[0].fixed_batch if self.signature.inputs else None,
            data_sha256=self._hash("evaluation"),
            calibration_sha256=self._hash("calibration") if calibration is not None else None,
            notices=tuple(notices),
        )
        prepared.write_slices(evaluation.slices)
        if self.measure.end_to_end:
            largest = prepared.fixed_batch or max(self.measure.batch_sizes)
            write_raw(self.folder, self._encoder, evaluation, prepared.lengths, largest)
        prepared.write()
        return prepared

    def _limited(self, rows: Rows) -> Rows:
        """At most max_examples rows: a seeded draw, in the order of the file."""
        limit = self.config.max_examples
        if limit is None or len(rows) <= limit:
            return rows
        chosen = np.random.default_rng(self.config.seed).choice(len(rows), limit, replace=False)
        return rows.take(np.sort(chosen))

    def _class_names(self, rows: Rows) -> tuple[str, ...]:
        named: list[str] | None = None
        if self.source.kind == "transformers":
            named = list(transformers_config(self.source.reference).id2label.values())
        return class_names_of(rows.labels, named, None) if rows.labels is not None else tuple(named or ())

    def _lengths(self) -> tuple[int, ...]:
        if self.source.task != "text-classification":
            return (0,)
        fixed = self.signature.fixed_length
        return self.measure.sequence_lengths if fixed is None else (fixed,)

    def _write_part(self, part: Part, rows: Rows, names: Sequence[str]) -> None:
        for length in self._lengths():
            place = self.folder / part / str(length)
            place.mkdir(parents=True)
            for name, array in self._encoder.arrays(rows, length).items():
                np.save(array_file(place, name), array)
        if rows.labels is not None:
            np.save(self.folder / part / "labels.npy", encode(rows.labels, names))

    @cached_property
    def _encoder(self) -> Encoder:
        tokenizer = self.tokenizer or self.source.reference
        return Encoder(self.source.task, self.signature, tokenizer, self.config.preprocess)

    def _overlap(self) -> list[str]:
        """Refuse calibration rows that are mostly the evaluation's; tell of a few."""
        length = str(max(self._lengths()))
        evaluation, calibration = (_row_hashes(self.folder / part / length) for part in ("evaluation", "calibration"))
        evaluated = set(evaluation)
        shared = len([row for row in calibration if row in evaluated])
        if shared > _OVERLAP_REFUSED * len(calibration):
            raise InputError(
                f"the calibration data is the evaluation data: {shared} of its {len(calibration)} rows are evaluated too. "
                "Give other rows, such as those the model was trained on."
            )
        return [f"{shared} of {len(calibration)} calibration rows are evaluated too."] if shared else []

    def _hash(self, part: Part) -> str:
        return hash_of_arrays(self.folder / part)


def _row_hashes(folder: Path) -> list[bytes]:
    arrays = [np.load(path) for path in sorted(folder.glob("*.npy"))]
    return [b"".join(array[row].tobytes() for array in arrays) for row in range(len(arrays[0]))]


def prepare_classifier(
    config: WorkloadConfig,
    measure: MeasureConfig,
    source: Source,
    signature: Signature,
    folder: Path,
    progress: Progress,
    base: Path,
) -> Prepared:
    """Read, check and encode the files of a classifier."""
    tokenizer = str(base / config.tokenizer) if config.tokenizer else None
    if source.task == "text-classification" and source.kind != "transformers" and tokenizer is None:
        raise ConfigError(f"a text model without a tokenizer of its own ({source.reference}) needs workload.tokenizer")
    progress(0.2, "reading the data")
    calibration = read_calibration(config, source.task, base)
    evaluation = read_evaluation(config, source.task, base)
    progress(0.5, "encoding the data")
    return Material(config, measure, source, signature, folder, tokenizer).write(evaluation, calibration)
