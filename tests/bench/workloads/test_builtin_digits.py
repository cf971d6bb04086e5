"""The convolutional networks at a tiny size."""

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
from weighbridge.bench.workloads.builtin_digits import (
    DEFAULT_SIZE,
    plain_network,
    plain_with,
    residual_network,
    residual_with,
)
from weighbridge.bench.workloads.data import Rows
from weighbridge.bench.workloads.digits import handwritten_digits
from weighbridge.optimize.errors import InputError
from weighbridge.optimize.pruning_groups import find_groups
from weighbridge.optimize.recipe import Recipe

TINY = replace(DEFAULT_SIZE, trained_on=600, evaluated=150, epochs=3)
STATIC = Recipe.from_dict({"backend": "onnxruntime", "precision": "int8", "steps": [{"use": "static-int8"}]})


@pytest.mark.usefixtures("trained_here")
def test_a_plain_network_is_trained_and_its_int8_variant_judged(
    prepared_of: Callable[[Made, int], Prepared], judged: Callable[..., tuple[float, Judgement]]
) -> None:
    """600 digits teach it to read most of the others; torch's INT8 is no worse."""
    made = plain_with(TINY, Request(0), ignore)
    assert made.class_names == tuple("0123456789")
    accuracy, judgement = judged(prepared_of(made, 0), "torch-int8")
    assert accuracy > 0.8
    assert [gate.verdict for gate in judgement.gates] == ["pass"]


@pytest.mark.usefixtures("trained_here")
def test_a_residual_network_is_trained_and_its_int8_variant_judged(
    prepared_of: Callable[[Made, int], Prepared], judged: Callable[..., tuple[float, Judgement]]
) -> None:
    """600 digits teach it to read most of the others; ONNX Runtime's static INT8, convolutions included, is no worse."""
    made = residual_with(TINY, Request(0), ignore)
    accuracy, judgement = judged(prepared_of(made, 0), "onnxruntime-int8", STATIC)
    assert accuracy > 0.8
    assert [gate.verdict for gate in judgement.gates] == ["pass"]


def test_channels_of_every_block_can_be_pruned() -> None:
    """Each block's inner channels form a group of their own, and what the first sum adds up another; the scores form none."""
    groups, reason = find_groups(residual_network(classes=10, channels=1))
    assert reason == ""
    sizes = {group.name: group.size for group in groups}
    assert sizes == {
        "start.0": 16,
        "blocks.0.first.0": 16,
        "blocks.1.first.0": 32,
        "blocks.1.second.0": 32,
        "blocks.2.first.0": 64,
        "blocks.2.second.0": 64,
    }
    sum_of_first_block = next(group for group in groups if group.name == "start.0")
    assert "blocks.0.second.0.weight" in {member.tensor for member in sum_of_first_block.members}


@torch.inference_mode()
def test_a_block_adds_what_came_in() -> None:
    """Where the two convolutions give zero, a block gives its input, rectified."""
    module = residual_network(classes=3, channels=2).eval()
    block = module.blocks[0]
    torch.nn.init.zeros_(block.second[1].weight)
    pixels = torch.randn(2, 16, 5, 5)
    np.testing.assert_array_equal(block(pixels), pixels.relu())


@pytest.mark.parametrize("shape", [(28, 28), (9, 12, 3)])
def test_own_images_decide_the_sizes(shape: tuple[int, ...]) -> None:
    """Images of any height, width and channels, and any labels, are taken: the network has their sizes."""
    channels = shape[2] if len(shape) > 2 else 1
    pixels = torch.zeros(2, channels, *shape[:2])
    assert plain_network(classes=4, channels=channels, height=shape[0], width=shape[1])(pixels).shape == (2, 4)
    assert residual_network(classes=4, channels=channels)(pixels).shape == (2, 4)


@pytest.mark.usefixtures("trained_here")
def test_own_images_are_trained_on_as_they_are_evaluated(prepared_of: Callable[[Made, int], Prepared]) -> None:
    """Whole-number pixels are scaled to 0 to 1 on both sides: bright and dark images are told apart, under their own labels."""
    random = np.random.default_rng(0)
    values = np.concatenate([random.integers(0, 90, (60, 6, 7)), random.integers(160, 256, (60, 6, 7))]).astype(
        np.uint8
    )
    rows = Rows(values=values, labels=("dark",) * 60 + ("bright",) * 60)
    request = Request(0, training=rows.take(range(0, 120, 2)), evaluation=rows.take(range(1, 120, 2)))
    made = plain_with(replace(TINY, epochs=8), request, ignore)
    prepared = prepared_of(made, 0)
    assert prepared.class_names == ("bright", "dark")
    arrays = prepared.arrays("evaluation", 0)["pixels"]
    assert (arrays.shape, float(arrays.max()) <= 1.0) == ((60, 1, 6, 7), True)
    from weighbridge.optimize.loading import load

    with torch.inference_mode():
        scores: Any = load(made.source).module(torch.from_numpy(np.array(arrays)))
    labels = prepared.labels()
    assert labels is not None
    assert float((scores.argmax(dim=1).numpy() == labels).mean()) > 0.9


def test_what_is_no_image_is_refused() -> None:
    """Rows of numbers are no images: the shape that was given is in the sentence."""
    rows = Rows(values=np.zeros((10, 4), np.float32), labels=("a", "b") * 5)
    with pytest.raises(InputError, match=r"images must have shape .* given \(10, 4\)"):
        plain_with(TINY, Request(0, training=rows, evaluation=rows), ignore)


def test_digits_are_drawn_once_each() -> None:
    """No digit is on both sides, all are on one where none is left out, and a seed gives the same ones again."""
    corpus, again, other = (handwritten_digits(None, 600, seed) for seed in (0, 0, 1))
    assert (len(corpus.training), len(corpus.evaluation)) == (1197, 600)
    assert len(handwritten_digits(50, 600, 0).training) == 50
    np.testing.assert_array_equal(np.asarray(corpus.evaluation.values), np.asarray(again.evaluation.values))
    assert not np.array_equal(np.asarray(corpus.evaluation.values), np.asarray(other.evaluation.values))
    sides = [{values.tobytes() for values in np.asarray(rows.values)} for rows in (corpus.training, corpus.evaluation)]
    assert not sides[0] & sides[1]
