"""The bag of words at a tiny size."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from weighbridge.bench.judge import Judgement
from weighbridge.bench.reporter import ignore
from weighbridge.bench.workloads.base import Prepared
from weighbridge.bench.workloads.builtin import Made, Request
from weighbridge.bench.workloads.builtin_bow_mlp import Size, bag_network, make_with
from weighbridge.bench.workloads.data import Rows

TINY = Size(vocabulary=40, width=16, length=20, epochs=8, learning_rate=2e-2)


@pytest.mark.usefixtures("trained_here")
def test_a_bag_of_words_is_trained_and_its_int8_variant_judged(
    subject_rows: Callable[..., Rows],
    prepared_of: Callable[[Made, int], Prepared],
    judged: Callable[[Prepared, str], tuple[float, Judgement]],
) -> None:
    """Three classes that one word tells apart are learnt; the bag is exported with the model, whose INT8 variant is no worse."""
    names = "fruit metal tree"
    request = Request(0, training=subject_rows(names, 480, 1), evaluation=subject_rows(names, 96, 2))
    made = make_with(TINY, request, ignore)
    accuracy, judgement = judged(prepared_of(made, 20), "onnxruntime-int8")
    assert accuracy > 0.9
    assert [gate.verdict for gate in judgement.gates] == ["pass"]


@torch.inference_mode()
def test_the_bag_is_which_words_are_there() -> None:
    """The scores are those of a matrix of zeros and ones, made by hand; order, repetition and padding change nothing."""
    torch.manual_seed(0)
    module = bag_network(vocabulary=12, classes=3, width=5).eval()
    matrix = torch.zeros(2, 12)
    matrix[0, [3, 7, 9]] = 1
    matrix[1, [2]] = 1
    wanted = module.scores(module.second(module.first(matrix).relu()).relu())
    for ids in ([[3, 7, 9, 3], [2, 2, 2, 2]], [[0, 9, 7, 3], [0, 0, 0, 2]]):
        np.testing.assert_allclose(module(torch.tensor(ids)), wanted, atol=1e-6)
