"""Decoders of ONNX Runtime whose cache is grown in place: buffers that stay, grow, and answer as the module."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from weighbridge.optimize import onnxruntime_decoder
from weighbridge.optimize.backends.base import OpenOptions
from weighbridge.optimize.backends.onnxruntime_backend import BACKEND
from weighbridge.optimize.backends.torch_backend import open_in_memory
from weighbridge.optimize.model import Examples
from weighbridge.optimize.onnxruntime_decoder import CopyingDecoder, InPlaceDecoder
from weighbridge.optimize.techniques.in_place_cache import InPlaceCache, apply

Get = Callable[[str], Any]


@pytest.fixture(scope="module")
def in_place(onnx_model: Get, probes: Any, tmp_path_factory: pytest.TempPathFactory) -> Get:
    """Open a tiny generator whose graph grows its cache in place: (name) -> decoder."""

    def open_(name: str) -> Any:
        folder = tmp_path_factory.mktemp(name)
        model = apply(onnx_model(name), InPlaceCache(), Examples(probes[name]), folder).model
        built = tmp_path_factory.mktemp(f"{name}-built")
        return BACKEND.open(built, BACKEND.build(model, built), model.signature, OpenOptions())

    return open_


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("block", [4, 128])
def test_a_decoder_steps_as_the_module(
    torch_model: Get, in_place: Get, monkeypatch: pytest.MonkeyPatch, name: str, rows: int, block: int
) -> None:
    """In buffers that must grow twice and in one that need not, prefill with padding and steps give the module's logits."""
    monkeypatch.setattr(onnxruntime_decoder, "_BLOCK", block)
    decoder, reference = in_place(name), open_in_memory(torch_model(name))
    ids = np.random.default_rng(rows).integers(0, 100, (rows, 10))
    mask = np.ones_like(ids)
    if rows > 1:
        mask[0, :3] = 0
    past = expected_past = None
    for start, stop in ((0, 3), (3, 4), (4, 5), (5, 7), (7, 8), (8, 10)):
        fed = np.ascontiguousarray(ids[:, start:stop])
        logits, past = decoder.step(fed, mask[:, :stop], past)
        expected, expected_past = reference.step(fed, mask[:, :stop], expected_past)
        real = mask[:, start:stop].astype(bool)
        assert logits.shape == expected.shape
        assert np.abs(logits - expected)[real].max(initial=0.0) < 1e-4
        assert past.capacity == -(-stop // block) * block


def test_a_buffer_with_room_is_kept(in_place: Get) -> None:
    """From step to step the cache lies in the same buffers, and what they hold of the past stays as it is."""
    decoder = in_place("gpt2")
    ids = np.random.default_rng(5).integers(0, 100, (2, 7))
    mask = np.ones_like(ids)
    _, first = decoder.step(np.ascontiguousarray(ids[:, :6]), mask[:, :6], None)
    before = [part.numpy().copy() for part in first.parts]
    logits, second = decoder.step(np.ascontiguousarray(ids[:, 6:]), mask, first, last=True)
    assert second is first
    assert logits.shape[:2] == (2, 1)
    for part, held in zip(second.parts, before, strict=True):
        assert part.shape() == [2, 2, 128, 16]
        np.testing.assert_array_equal(part.numpy()[:, :, :6], held[:, :, :6])
        assert np.abs(part.numpy()[:, :, 6]).max() > 0
        assert np.abs(part.numpy()[:, :, 7:]).max() == 0


def test_two_requests_at_once_do_not_meet(in_place: Get) -> None:
    """Two caches of one decoder, stepped in turn, give what each gives alone."""
    decoder = in_place("llama")
    prompts = [np.random.default_rng(seed).integers(0, 100, (1, 6)) for seed in (1, 2)]

    def answers(order: list[int]) -> dict[int, list[Any]]:
        pasts: dict[int, Any] = {}
        given: dict[int, list[Any]] = {0: [], 1: []}
        for request in order:
            place = len(given[request]) + 3
            fed = prompts[request][:, :4] if request not in pasts else prompts[request][:, place : place + 1]
            mask = np.ones((1, place + 1), np.int64)
            logits, pasts[request] = decoder.step(np.ascontiguousarray(fed), mask, pasts.get(request), last=True)
            given[request].append(logits)
        return given

    alone, mixed = answers([0, 0, 0, 1, 1, 1]), answers([0, 1, 0, 1, 0, 1])
    for request in (0, 1):
        np.testing.assert_array_equal(np.array(alone[request]), np.array(mixed[request]))


def test_the_decoder_is_told_from_the_graph(onnx_model: Get, in_place: Get, tmp_path: Any) -> None:
    """A graph as it is exported is opened with a cache that is copied, a rewritten one with buffers."""
    model = onnx_model("gpt2")
    plain = BACKEND.open(tmp_path, BACKEND.build(model, tmp_path), model.signature, OpenOptions())
    opened = in_place("gpt2")
    assert (type(plain), type(opened)) == (CopyingDecoder, InPlaceDecoder)
    plain.close()
    opened.close()
