"""Let a decoder's graph grow its key/value cache where it lies, instead of copying all of it at every token.

ONNX's Attention joins past and new keys into new tensors. ONNX Runtime's GroupQueryAttention, which is given one buffer as past
and as present, only writes the new ones behind those that lie there; the rest of the buffer is room to grow. Given a past
of just its length it joins and copies as Attention does, so that the graph still answers a caller who knows of no buffers.
"""

from typing import Any

from .errors import BuildError
from .onnx_files import attributes_of

CAPACITY = "capacity"
"""The name of the cache's third axis, going in and out alike, in graphs that grow it in place."""
_TOTAL, _LAST = "in_place.total", "in_place.last"
_MICROSOFT = "com.microsoft"
_PAST = slice(4, 6)
"""Where an Attention reads the cache."""


def grow_in_place(model: Any) -> int:
    """Put GroupQueryAttention in the place of every Attention of a decoder's graph; returns how many there were.

    Raises:
        BuildError: the graph has no Attention with a cache, reads its cache elsewhere too, or asks of Attention what the
            other operator does not compute; the graph is as it was.
    """
    attentions = [node for node in model.graph.node if node.op_type == "Attention" and not node.domain]
    _check(model.graph, attentions)
    for node in attentions:
        _replace(model.graph, node)
    _drop_unread_splits(model.graph)
    _count_positions(model.graph)
    for value in (*model.graph.input, *model.graph.output):
        if value.name.startswith(("past_key_values.", "present.")):
            value.type.tensor_type.shape.dim[2].dim_param = CAPACITY
    if _MICROSOFT not in {each.domain for each in model.opset_import}:
        model.opset_import.add(domain=_MICROSOFT, version=1)
    return len(attentions)


def _check(graph: Any, attentions: list[Any]) -> None:
    if any(node.op_type == "GroupQueryAttention" for node in graph.node):
        raise BuildError("the graph grows its cache in place already; leave the step out")
    cached = [name for node in attentions for name in node.input[_PAST]]
    reads = [name for node in graph.node for name in node.input if name.startswith("past_key_values.")]
    if not cached:
        raise BuildError("the graph has no Attention operator with a cache; export a generator by the default exporter")
    if sorted(cached) != sorted(reads):
        raise BuildError(
            "the graph reads the length of its cache, which a buffer with room to grow does not tell; "
            "models with windowed attention keep a cache that is copied"
        )
    for node in attentions:
        asked = {
            name: value for name, value in attributes_of(node).items() if name in ("softcap", "is_causal") and value
        }
        if asked:
            raise BuildError(f"GroupQueryAttention is not given {', '.join(asked)}, which the graph's Attention has")


def _replace(graph: Any, node: Any) -> None:
    """Make an Attention the other operator: the mask becomes its bias, and what one Split gave goes in as it was before."""
    from onnx import helper

    query, key, value, mask, *past = node.input
    packed = _split_to(graph, [query, key, value])
    if packed is not None:
        query, key, value = packed, "", ""
    attributes = attributes_of(node)
    made = helper.make_node(
        "GroupQueryAttention",
        [query, key, value, *past, _LAST, _TOTAL, "", "", "", mask],
        list(node.output[:3]),
        name=node.name,
        domain=_MICROSOFT,
        num_heads=attributes["q_num_heads"],
        kv_num_heads=attributes["kv_num_heads"],
        **({"scale": attributes["scale"]} if "scale" in attributes else {}),
    )
    node.CopyFrom(made)
    graph.value_info.append(_answer_of(graph, node))


def _answer_of(graph: Any, node: Any) -> Any:
    """What quantizers must know of the answer, which shape inference cannot tell of a foreign operator."""
    from onnx import helper

    past = next(value.type.tensor_type for value in graph.input if value.name == node.input[3])
    width = attributes_of(node)["num_heads"] * past.shape.dim[3].dim_value
    return helper.make_tensor_value_info(node.output[0], past.elem_type, ["batch", "sequence", width])


def _split_to(graph: Any, parts: list[str]) -> str | None:
    """The value that one Split along the features cuts into these parts; None where they come from elsewhere."""
    for node in graph.node:
        if node.op_type == "Split" and list(node.output) == parts and attributes_of(node).get("axis", 0) in (-1, 2):
            return str(node.input[0])
    return None


def _drop_unread_splits(graph: Any) -> None:
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for node in [each for each in graph.node if each.op_type == "Split" and not read.intersection(each.output)]:
        graph.node.remove(node)


def _count_positions(graph: Any) -> None:
    """Before all other nodes, count the positions: of all, and the last one's of each row; the mask has one a position."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    graph.initializer.append(numpy_helper.from_array(np.array(1, np.int32), "in_place.one"))
    counting = [
        helper.make_node("Shape", ["attention_mask"], ["in_place.positions"], start=1, end=2),
        helper.make_node("Squeeze", ["in_place.positions"], ["in_place.position_count"]),
        helper.make_node("Cast", ["in_place.position_count"], [_TOTAL], to=TensorProto.INT32),
        helper.make_node("Sub", [_TOTAL, "in_place.one"], ["in_place.last_of_all"]),
        helper.make_node("Shape", ["attention_mask"], ["in_place.rows"], start=0, end=1),
        helper.make_node("Expand", ["in_place.last_of_all", "in_place.rows"], [_LAST]),
    ]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*counting, *rest])
