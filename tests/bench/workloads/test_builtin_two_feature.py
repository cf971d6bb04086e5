"""The network of two features."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from weighbridge.bench.judge import Judgement
from weighbridge.bench.reporter import ignore
from weighbridge.bench.workloads.base import Prepared
from weighbridge.bench.workloads.builtin import Made, Request
from weighbridge.bench.workloads.builtin_two_feature import DEFAULT_SIZE, breast_cancer, make_with, network, standardise
from weighbridge.bench.workloads.data import Rows
from weighbridge.optimize.errors import InputError
from weighbridge.optimize.loading import load
from weighbridge.optimize.recipe import Recipe
from weighbridge.optimize.variant import Variant

PRUNED = {"backend": "torch", "precision": "fp32", "steps": [{"use": "structured-pruning", "ratio": 0.25}]}


@pytest.mark.usefixtures("trained_here")
def test_it_is_trained_pruned_and_its_int8_variant_judged(
    prepared_of: Callable[[Made, int], Prepared],
    judged: Callable[..., tuple[float, Judgement]],
    built_of: Callable[[Prepared, Any], Variant],
) -> None:
    """At its default size it clears its floor, the unit above 0 means malignant; torch's INT8 is no worse; a quarter can go."""
    made = make_with(DEFAULT_SIZE, Request(0), ignore)
    assert made.class_names == ("benign", "malignant")
    prepared = prepared_of(made, 0)
    accuracy, judgement = judged(prepared, "torch-int8")
    assert accuracy > 0.82
    assert [gate.verdict for gate in judgement.gates] == ["pass"]
    large, small = load(made.source).module(torch.tensor([[25.0, 25.0], [9.0, 15.0]])).flatten().tolist()
    assert small < 0 < large
    kept, buffers = 12, 4
    assert built_of(prepared, Recipe.from_dict(PRUNED)).manifest.parameters == 3 * kept + kept + 1 + buffers


def test_features_are_standardised_by_the_rows_trained_on() -> None:
    """Mean and deviation are those of numpy; one feature that never changes is divided by 1; scores are of raw features."""
    torch.manual_seed(0)
    values = np.array([[1.0, 5.0], [3.0, 5.0], [8.0, 5.0]], np.float32)
    module = network(features=2, width=4)
    standardise(module, {"features": values})
    np.testing.assert_allclose(module.mean, [4.0, 5.0])
    np.testing.assert_allclose(module.deviation, [np.std([1.0, 3.0, 8.0]), 1.0])
    raw = torch.from_numpy(values)
    standard = torch.from_numpy((values - [4.0, 5.0]) / [np.std([1.0, 3.0, 8.0]), 1.0]).float()
    wanted = module.score(module.hidden(standard).relu())
    np.testing.assert_allclose(module(raw).detach(), wanted.detach(), atol=1e-6)


def test_the_default_rows_are_scikit_learns_two_columns() -> None:
    """Mean radius and texture under their own names; both sides hold the same share of each class, and every row once."""
    corpus = breast_cancer(170, seed=0)
    data = load_breast_cancer()
    both = np.concatenate([np.asarray(rows.values) for rows in (corpus.training, corpus.evaluation)])
    wanted = data.data[:, :2].astype(np.float32)
    assert list(data.feature_names[:2]) == ["mean radius", "mean texture"]
    np.testing.assert_array_equal(both[np.lexsort(both.T)], wanted[np.lexsort(wanted.T)])
    shares = [np.mean(np.array(rows.labels) == "malignant") for rows in (corpus.training, corpus.evaluation)]
    assert shares == pytest.approx([212 / 569] * 2, abs=0.005)


def test_three_classes_and_what_is_no_table_are_refused() -> None:
    """One unit tells two classes apart; rows of numbers have two axes."""
    three = Rows(values=np.zeros((9, 2), np.float32), labels=("a", "b", "c") * 3)
    with pytest.raises(InputError, match="two-feature tells two classes apart, and the training data has 3 labels"):
        make_with(DEFAULT_SIZE, Request(0, training=three, evaluation=three), ignore)
    cubes = Rows(values=np.zeros((4, 2, 2), np.float32), labels=("a", "b") * 2)
    with pytest.raises(InputError, match=r"two-feature takes rows of numbers, .* given \(4, 2, 2\)"):
        make_with(DEFAULT_SIZE, Request(0, training=cubes, evaluation=cubes), ignore)
