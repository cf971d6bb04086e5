"""The network that reads images row by row, at a tiny size."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from weighbridge.bench.judge import Judgement
from weighbridge.bench.reporter import ignore
from weighbridge.bench.workloads.base import Prepared
from weighbridge.bench.workloads.builtin import Made, Request
from weighbridge.bench.workloads.builtin_row_lstm import DEFAULT_SIZE, make_with, network
from weighbridge.optimize.recipe import Recipe
from weighbridge.optimize.variant import Variant

TINY = replace(DEFAULT_SIZE, width=32, trained_on=600, evaluated=150, epochs=15, learning_rate=1e-2)
PRUNED = {"backend": "torch", "precision": "fp32", "steps": [{"use": "structured-pruning", "ratio": 0.25}]}


@pytest.mark.usefixtures("trained_here")
def test_it_is_trained_pruned_and_its_int8_variant_judged(
    prepared_of: Callable[[Made, int], Prepared],
    judged: Callable[..., tuple[float, Judgement]],
    built_of: Callable[[Prepared, Any], Variant],
) -> None:
    """600 digits teach it to read most of the others; torch's INT8 is no worse; units of all three layers can be taken out."""
    prepared = prepared_of(make_with(TINY, Request(0), ignore), 0)
    accuracy, judgement = judged(prepared, "torch-int8")
    assert accuracy > 0.6
    assert [gate.verdict for gate in judgement.gates] == ["pass"]
    pruned = built_of(prepared, Recipe.from_dict(PRUNED))
    assert pruned.manifest.parameters < 0.8 * built_of(prepared, "torch-fp32").manifest.parameters


@torch.inference_mode()
def test_a_row_is_read_with_all_its_channels() -> None:
    """The scores are those of the layers on rows that a loop puts together, columns of each channel one after another."""
    torch.manual_seed(0)
    module = network(classes=3, row=8, width=5).eval()
    pixels = torch.randn(2, 2, 6, 4)
    rows = torch.stack([torch.stack([torch.cat([*image[:, row]]) for row in range(6)]) for image in pixels])
    states, _ = module.recurrent(rows)
    np.testing.assert_allclose(module(pixels), module.scores(states[:, -1]), atol=1e-6)


def test_the_size_is_that_of_the_system() -> None:
    """Three layers of 128 units each."""
    recurrent = network(classes=10, row=8, width=DEFAULT_SIZE.width).recurrent
    assert (recurrent.num_layers, recurrent.hidden_size, recurrent.input_size) == (3, 128, 8)
