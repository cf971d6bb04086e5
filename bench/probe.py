"""A small ONNX model of known work, for measuring the machine and the meter themselves."""

from pathlib import Path

import numpy as np

WIDTH = 128
BATCH = 64
LAYERS = 40
"""About a millisecond a call on one core."""


def write_probe(path: Path, layers: int = LAYERS) -> None:
    """Write a stack of equal dense layers with ReLU: input (64, 128), output (64, 128); the work grows with `layers`.

    42 layers are 5 % more work than 40. Each layer has weights of its own, drawn with a fixed seed, so that none is folded
    into another.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    nodes, weights = [], []
    for index in range(layers):
        values = (random.standard_normal((WIDTH, WIDTH)) * np.sqrt(2 / WIDTH)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{index}"))
        nodes.append(helper.make_node("MatMul", [f"x{index}", f"w{index}"], [f"m{index}"]))
        nodes.append(helper.make_node("Relu", [f"m{index}"], [f"x{index + 1}"]))
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [BATCH, WIDTH])],
        [helper.make_tensor_value_info(f"x{layers}", TensorProto.FLOAT, [BATCH, WIDTH])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
