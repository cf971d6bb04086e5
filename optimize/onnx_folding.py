"""Compute once, in the file, what a graph computes from its weights alone at every call."""

from typing import Any

_ANY_SIZE = 1 << 40


def fold_weights(model: Any, *, transposes: bool) -> Any:
    """Return the graph with everything that follows from weights alone computed.

    The weights of recurrent layers are cut and joined in raw exports, at every call and out of the reach of
    quantization. `transposes` also folds transposed weights: quantization needs that, but a weight that is used both
    ways (the tied embedding of a generator) then lies in the file twice.
    """
    import onnx_ir
    from onnxscript import optimizer

    def folded(node: Any) -> bool | None:
        return False if node.op_type == "Transpose" and not transposes else None

    graph = onnx_ir.serde.deserialize_model(model)
    optimizer.fold_constants(
        graph, onnx_shape_inference=True, input_size_limit=_ANY_SIZE, output_size_limit=_ANY_SIZE, should_fold=folded
    )
    optimizer.remove_unused_nodes(graph)
    return _without_weight_shapes(onnx_ir.serde.serialize_model(graph))


def _without_weight_shapes(model: Any) -> Any:
    """Drop the shape notes that name weights: quantization makes them stale and then trips over them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.value_info if value.name not in weights]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    return model
