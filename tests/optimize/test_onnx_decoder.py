"""Decoders as ONNX graphs: one serves prefill and decode, attention is one operator a layer where the model allows it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from weighbridge.optimize import onnx_export
from weighbridge.optimize.batches import positions_of
from weighbridge.optimize.errors import BuildError
from weighbridge.optimize.model import CacheSpec, OnnxModel
from weighbridge.optimize.onnx_decoder import example_of, fused_decoder, past_names, plain_decoder, present_names
from weighbridge.optimize.onnx_export import export
from weighbridge.optimize.onnx_files import count_nodes

Get = Callable[[str], Any]
TOLERANCE = 1e-4
LAYERS = 2


def cache_of(model: OnnxModel) -> CacheSpec:
    assert model.signature.cache is not None
    return model.signature.cache


def empty_cache(model: OnnxModel, rows: int) -> dict[str, NDArray[Any]]:
    cache = cache_of(model)
    shape = (rows, cache.heads, 0, cache.head_size)
    return {name: np.zeros(shape, np.float32) for name in past_names(cache.layers)}


def feeds(ids: NDArray[Any], mask: NDArray[Any], keep: NDArray[Any] | None = None) -> dict[str, NDArray[Any]]:
    new = ids.shape[1]
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": positions_of(mask, new),
        "logits_to_keep": np.arange(new) if keep is None else keep,
    }


def ran(path: Path, given: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
    outputs: list[NDArray[np.float32]] = onnxruntime.InferenceSession(str(path)).run(None, given)
    return outputs


def read_at_once(module: Any, ids: NDArray[Any]) -> NDArray[np.float32]:
    import torch

    with torch.no_grad():
        logits: NDArray[np.float32] = module(torch.from_numpy(ids)).logits.numpy()
    return logits


@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_one_graph_serves_prefill_and_decode(torch_model: Get, onnx_model: Get, name: str, rows: int) -> None:
    """With an empty cache and then with a growing one, logits are those of a module that reads everything at once."""
    model = onnx_model(name)
    ids = np.random.default_rng(rows).integers(0, 100, (rows, 9))
    whole = read_at_once(torch_model(name).module, ids)
    cache = empty_cache(model, rows)
    start = 0
    for stop in (6, 7, 9):
        mask = np.ones((rows, stop), np.int64)
        logits, *present = ran(model.path, {**feeds(ids[:, start:stop], mask), **cache})
        assert np.abs(logits - whole[:, start:stop]).max() < TOLERANCE
        cache = dict(zip(cache, present, strict=True))
        start = stop


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_left_padding_changes_no_logit(onnx_model: Get, name: str) -> None:
    """A short prompt padded on the left beside a longer one is answered as it is alone."""
    model = onnx_model(name)
    ids = np.random.default_rng(8).integers(0, 100, (2, 8))
    mask = np.ones_like(ids)
    mask[0, :3] = 0
    together = ran(model.path, {**feeds(ids, mask), **empty_cache(model, 2)})[0]
    alone = ran(model.path, {**feeds(ids[:1, 3:], np.ones((1, 5), np.int64)), **empty_cache(model, 1)})[0]
    assert np.abs(together[0, 3:] - alone[0]).max() < TOLERANCE


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_only_the_wanted_positions_are_scored(onnx_model: Get, name: str) -> None:
    """`logits_to_keep` gives the logits of those of the new positions, in its order, and no others."""
    model = onnx_model(name)
    ids = np.random.default_rng(3).integers(0, 100, (2, 6))
    everything = {**feeds(ids, np.ones_like(ids)), **empty_cache(model, 2)}
    logits = ran(model.path, everything)[0]
    for kept in ([5], [4, 1]):
        some = ran(model.path, {**everything, "logits_to_keep": np.array(kept)})[0]
        np.testing.assert_allclose(some, logits[:, kept], atol=1e-5)


def test_a_graph_names_its_cache(onnx_model: Get) -> None:
    """The cache goes in as past_key_values.N.key/value and out as present.N.key/value, past positions free."""
    graph = onnx.load(onnx_model("gpt2").path).graph
    pairs = [f"{layer}.{part}" for layer in (0, 1) for part in ("key", "value")]
    inputs = [value.name for value in graph.input]
    alone = ["input_ids", "attention_mask", "position_ids", "logits_to_keep"]
    assert inputs == [*alone, *(f"past_key_values.{pair}" for pair in pairs)]
    assert [value.name for value in graph.output] == ["logits", *(f"present.{pair}" for pair in pairs)]
    dims = [dim.dim_param or dim.dim_value for dim in graph.input[4].type.tensor_type.shape.dim]
    assert dims == ["batch", 2, "past", 16]


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_attention_is_one_operator_a_layer(onnx_model: Get, name: str) -> None:
    """The graph has an Attention for each layer and no Softmax of its own; its products are all plain."""
    nodes = count_nodes(onnx.load(onnx_model(name).path))
    assert nodes["Attention"] == LAYERS
    assert "Softmax" not in nodes
    assert "Gemm" not in nodes


def called(wrapped: Any, model: Any) -> list[NDArray[Any]]:
    """The outputs of a wrapped module on the example that it is traced with."""
    import torch

    tensors, _ = example_of(model.module, cache_of(model))
    with torch.no_grad():
        return [output.numpy() for output in wrapped(*tensors.values())]


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_operator_computes_what_the_model_computes(torch_model: Get, name: str) -> None:
    """Wrapped either way the module gives the same logits and the same cache, and afterwards it is as it was."""
    model = torch_model(name)
    plain = called(plain_decoder(model.module), model)
    with fused_decoder(model.module) as wrapped:
        fused = called(wrapped, model)
    assert len(plain) == len(fused) == 1 + len(present_names(LAYERS))
    for ours, theirs in zip(fused, plain, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_array_equal(called(plain_decoder(model.module), model)[0], plain[0])


def test_a_model_with_attention_of_its_own_is_refused_the_operator(torch_model: Get) -> None:
    """A model that does not ask transformers for its attention function is noticed, not exported without its cache."""
    import torch

    class Alone(torch.nn.Module):
        def forward(self, input_ids: Any, **_: Any) -> Any:
            return SimpleNamespace(logits=input_ids)

    with fused_decoder(Alone()) as wrapped, pytest.raises(BuildError, match="computes its attention by itself"):
        called(wrapped, torch_model("gpt2"))


def test_sinks_are_refused_the_operator(torch_model: Get) -> None:
    """Attention sinks have no place in the operator."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    with fused_decoder(torch_model("gpt2").module), pytest.raises(BuildError, match="attention has sinks"):
        ALL_ATTENTION_FUNCTIONS["eager"](None, None, None, None, None, s_aux=1)


def test_without_the_operator_attention_is_the_models_own(
    torch_model: Get, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the operator is refused the export goes on with the model's own attention."""
    written: list[bool] = []

    def refuses_the_operator(module: Any, example: Any, path: Path) -> None:
        del module
        written.append(example.opset > onnx_export.OPSET)
        if written[-1]:
            raise BuildError("the model computes its attention by itself")
        path.write_bytes(b"")

    monkeypatch.setattr(onnx_export, "_run_dynamo", refuses_the_operator)
    monkeypatch.setitem(onnx_export._EXPORTERS, "dynamo", refuses_the_operator)
    monkeypatch.setattr(onnx_export, "_finish", lambda *_: None)
    model = torch_model("gpt2")
    assert export(model, (), tmp_path / "m.onnx") == OnnxModel(tmp_path / "m.onnx", model.signature)
    assert written == [True, False]


def test_a_cache_takes_two_tensors_a_layer(torch_model: Get) -> None:
    """2 x 2 layers x 2 heads x 16 numbers x 3 requests x 10 positions: 15,360 bytes in FP32, half of it in BF16."""
    cache = torch_model("gpt2").signature.cache
    assert cache.bytes(3, 10) == 2 * 2 * 2 * 16 * 3 * 10 * 4
    assert replace(cache, dtype="bfloat16").bytes(3, 10) == cache.bytes(3, 10) // 2
