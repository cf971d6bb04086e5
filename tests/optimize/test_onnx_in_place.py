"""Attention that grows its cache in place: the same answers, in buffers with room and without, and what is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper
from weighbridge.optimize.batches import positions_of
from weighbridge.optimize.errors import BuildError
from weighbridge.optimize.onnx_files import count_nodes
from weighbridge.optimize.onnx_in_place import CAPACITY, grow_in_place

Get = Callable[[str], Any]
Arrays = dict[str, NDArray[Any]]
PIECES = ((0, 6), (6, 7), (7, 8), (8, 9))


def rewritten(model: Any) -> Any:
    graph = onnx.load(str(model.path))
    grow_in_place(graph)
    return graph


def runner(graph: Any) -> Callable[[Arrays], list[NDArray[np.float32]]]:
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    return lambda given: session.run(None, given)  # type: ignore[no-any-return]


def feeds(ids: NDArray[np.int64], mask: NDArray[np.int64], start: int, stop: int) -> Arrays:
    new = stop - start
    seen = mask[:, :stop]
    return {
        "input_ids": ids[:, start:stop],
        "attention_mask": seen,
        "position_ids": positions_of(seen, new),
        "logits_to_keep": np.arange(new),
    }


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("rows", [1, 4])
def test_a_caller_without_buffers_is_answered_as_before(onnx_model: Get, name: str, rows: int) -> None:
    """Fed piece by piece with a cache of just its length, the graph gives the logits and the cache of the one before it."""
    model = onnx_model(name)
    before, after = runner(onnx.load(str(model.path))), runner(rewritten(model))
    ids = np.random.default_rng(rows).integers(0, 100, (rows, 9))
    mask = np.ones_like(ids)
    if rows > 1:
        mask[0, :3] = 0
    names = [value.name for value in onnx.load(str(model.path)).graph.input if value.name.startswith("past")]
    empty = np.zeros((rows, model.signature.cache.heads, 0, model.signature.cache.head_size), np.float32)
    cache = dict.fromkeys(names, empty)
    for start, stop in PIECES:
        given = {**feeds(ids, mask, start, stop), **cache}
        expected, found = before(given), after(given)
        real = mask[:, start:stop].astype(bool)
        np.testing.assert_allclose(found[0][real], expected[0][real], atol=1e-4)
        for ours, theirs in zip(found[1:], expected[1:], strict=True):
            seen = mask[:, None, :stop, None].astype(bool)
            np.testing.assert_allclose(ours * seen, theirs * seen, atol=1e-4)
        cache = dict(zip(names, expected[1:], strict=True))


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_every_attention_is_replaced_and_the_cache_has_one_size(onnx_model: Get, name: str) -> None:
    """No Attention is left, the graph is valid, and going in and coming out the cache's third axis has one name."""
    graph = rewritten(onnx_model(name))
    onnx.checker.check_model(graph)
    nodes = count_nodes(graph)
    assert (nodes["GroupQueryAttention"], "Attention" in nodes) == (2, False)
    cached = [value for value in (*graph.graph.input, *graph.graph.output) if "." in value.name]
    assert {value.type.tensor_type.shape.dim[2].dim_param for value in cached} == {CAPACITY}
    assert len(cached) == 8


def test_what_a_split_cut_goes_in_whole(onnx_model: Get) -> None:
    """GPT-2's queries, keys and values come from one product, which the operator takes as it is: no Split is left."""
    assert count_nodes(onnx.load(str(onnx_model("gpt2").path)))["Split"] == 2
    assert "Split" not in count_nodes(rewritten(onnx_model("gpt2")))


def test_a_graph_is_rewritten_once(onnx_model: Get) -> None:
    """A second time there is nothing to do, and the text says so."""
    with pytest.raises(BuildError, match="grows its cache in place already; leave the step out"):
        grow_in_place(rewritten(onnx_model("gpt2")))


def test_a_graph_without_a_cache_is_refused(onnx_model: Get) -> None:
    """A classifier's graph has no attention with a cache."""
    with pytest.raises(BuildError, match="no Attention operator with a cache; export a generator"):
        rewritten(onnx_model("mlp"))


def test_a_graph_that_asks_for_the_length_of_its_cache_is_refused(onnx_model: Get) -> None:
    """A buffer with room is longer than its past: a graph that reads that length would be misled."""
    graph = onnx.load(str(onnx_model("gpt2").path))
    graph.graph.node.append(helper.make_node("Shape", ["past_key_values.0.key"], ["length"]))
    untouched = graph.SerializeToString()
    with pytest.raises(BuildError, match="reads the length of its cache"):
        grow_in_place(graph)
    assert graph.SerializeToString() == untouched


def test_what_the_operator_is_not_given_is_refused(onnx_model: Get) -> None:
    """An Attention with a soft cap is left as it is, and the text names what it asks for."""
    graph = onnx.load(str(onnx_model("gpt2").path))
    node = next(each for each in graph.graph.node if each.op_type == "Attention")
    for each in [each for each in node.attribute if each.name == "softcap"]:
        node.attribute.remove(each)
    node.attribute.append(helper.make_attribute("softcap", 30.0))
    with pytest.raises(BuildError, match="is not given softcap, which the graph's Attention has"):
        grow_in_place(graph)
