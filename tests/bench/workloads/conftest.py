"""A built-in workload from its trained model to a verdict, in this process: for the tests that train one at a tiny size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from weighbridge.bench.building import examples_of
from weighbridge.bench.config import MeasureConfig, WorkloadConfig
from weighbridge.bench.judge import Judgement, VariantState, judge
from weighbridge.bench.predictions import ClassPredictions, predicted_classes
from weighbridge.bench.quality_evidence import quality_evidence
from weighbridge.bench.rules import Rule
from weighbridge.bench.workloads.base import Prepared, batches
from weighbridge.bench.workloads.builtin import Made
from weighbridge.bench.workloads.data import Rows
from weighbridge.bench.workloads.prepare import Material
from weighbridge.optimize import optimize
from weighbridge.optimize.backends.base import Predictor
from weighbridge.optimize.cache import ArtifactCache
from weighbridge.optimize.loading import read_source_signature
from weighbridge.optimize.variant import Variant

_SUBJECTS = {"fruit": "apple pear plum cherry", "metal": "iron zinc copper lead", "tree": "oak birch elm willow"}
_FILLERS = ("the", "a", "some", "which", "this", "many", "old", "new")
_NO_WORSE = Rule("accuracy", "difference", -0.2, maximum=False)


def _subject_rows(names: str, count: int, seed: int) -> Rows:
    """So many texts that each have one word of their class among fillers, and its name as label."""
    random = np.random.default_rng(seed)
    labels = [names.split()[row % len(names.split())] for row in range(count)]
    texts = []
    for label in labels:
        words = list(random.choice(_FILLERS, 4 + int(random.integers(5))))
        words.insert(int(random.integers(len(words))), str(random.choice(_SUBJECTS[label].split())))
        texts.append(" ".join(words))
    return Rows(texts=tuple(texts), labels=tuple(labels))


@pytest.fixture(scope="session")
def subject_rows() -> Callable[..., Rows]:
    """Texts of two or three classes (of fruit, metal, tree) that one word tells apart: (names, count, seed) -> rows."""
    return _subject_rows


@pytest.fixture
def trained_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, so that everything is trained in it."""
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def prepared_of(tmp_path: Path) -> Callable[[Made, int], Prepared]:
    """The arrays of a built-in classifier at one length: (made, length) -> prepared."""

    def prepare(made: Made, length: int) -> Prepared:
        config = WorkloadConfig.model_validate({"name": "tiny", "builtin": "tiny"})
        measure = MeasureConfig(sequence_lengths=(length or 1,))
        signature = read_source_signature(made.source)
        material = Material(config, measure, made.source, signature, tmp_path / "prepared", made.tokenizer)
        return material.write(made.evaluation, made.calibration, made.class_names)

    return prepare


@pytest.fixture
def built_of(tmp_path: Path) -> Callable[[Prepared, Any], Variant]:
    """A variant of a prepared workload, built, verified and audited here: (prepared, recipe) -> variant."""

    def build(prepared: Prepared, recipe: Any) -> Variant:
        return optimize(
            prepared.source, recipe, examples=examples_of(prepared), cache=ArtifactCache(tmp_path / "variants")
        )

    return build


def _answers(variant: Variant, prepared: Prepared) -> ClassPredictions:
    opened = cast("Predictor", variant.open())
    arrays = prepared.arrays("evaluation", max(prepared.lengths))
    outputs = [opened.arrays(opened.infer(opened.load(batch))) for batch in batches(arrays, 16)]
    opened.close()
    scores = np.concatenate([next(iter(each.values())) for each in outputs])
    labels = prepared.labels()
    assert labels is not None
    return ClassPredictions(labels, predicted_classes(scores), scores, tuple(prepared.excerpts()))


@pytest.fixture
def judged(built_of: Callable[[Prepared, Any], Variant]) -> Callable[..., tuple[float, Judgement]]:
    """An INT8 variant against torch FP32: (prepared, its name) -> the baseline's accuracy, and the judgement of "no worse by 0.2".

    A recipe may be given where the name alone does not say how the variant is built.
    """

    def weigh(prepared: Prepared, name: str, recipe: Any = None) -> tuple[float, Judgement]:
        variants = {"torch-fp32": built_of(prepared, "torch-fp32"), name: built_of(prepared, recipe or name)}
        answers = {each: _answers(variant, prepared) for each, variant in variants.items()}
        evidence = list(quality_evidence(answers, "torch-fp32"))
        states = {each: VariantState("ok") for each in variants}
        accuracy = float(answers["torch-fp32"].correct.mean())
        return accuracy, judge([_NO_WORSE], evidence, states, baseline="torch-fp32")

    return weigh
