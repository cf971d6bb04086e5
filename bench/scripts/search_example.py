"""A network to try a search on: one layer suffers badly from INT8, with data and a config that asks for it.

Run: python bench/scripts/search_example.py FOLDER && cd FOLDER && weighbridge search --max-drop 0.1
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 16
CLASSES = 3
OUTLIER = 10.0

CONFIG = """[workload]
name = "planted"
task = "tabular-classification"
model = "model.onnx"
data = "data.npz"

[[variants]]
name = "ort-fp32"
backend = "onnxruntime"
baseline = true

[[variants]]
name = "ort-int8"
backend = "onnxruntime"
precision = "int8"
steps = [{ use = "dynamic-int8", per_channel = false, reduce_range = true }]

[measure]
max_seconds = 20
"""


def write_example(
    folder: Path, *, layers: int = 4, examples: int = 4000, outlier: float = OUTLIER, seed: int = 0
) -> None:
    """Write model.onnx, data.npz and weighbridge.toml.

    The labels are the network's own answers. The second layer, `layer1`, has one row of large weights that no input reaches: it
    changes no answer, but with one scale for the whole weight it leaves few of the 8 bits to all other rows.
    """
    random = np.random.default_rng(seed)
    sizes = [*[WIDTH] * layers, CLASSES]
    weights = [random.standard_normal(size).astype(np.float32) for size in itertools.pairwise(sizes)]
    weights[0][:, 0] = -np.abs(weights[0][:, 0])
    rows = np.abs(random.standard_normal((examples, WIDTH))).astype(np.float32)
    hidden = rows
    for weight in weights[:-1]:
        hidden = np.maximum(hidden @ weight, 0)
    mean = hidden.mean(axis=0)
    weights[-1] -= np.outer(mean, mean @ weights[-1] / (mean @ mean)).astype(np.float32)  # all classes alike often
    labels = (hidden @ weights[-1]).argmax(axis=1)
    weights[1][0] = outlier * np.abs(weights[1]).max()
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(network(weights), str(folder / "model.onnx"))
    np.savez(folder / "data.npz", x=rows, y=labels)
    (folder / "weighbridge.toml").write_text(CONFIG, encoding="utf-8")


def network(weights: list[np.ndarray]) -> onnx.ModelProto:
    """Products named layer0, layer1, ..., with a ReLU after each but the last."""
    nodes, given = [], "x"
    for place in range(len(weights)):
        product = "y" if place == len(weights) - 1 else f"product{place}"
        nodes.append(helper.make_node("MatMul", [given, f"weight{place}"], [product], name=f"layer{place}"))
        if product != "y":
            given = f"positive{place}"
            nodes.append(helper.make_node("Relu", [product], [given]))
    graph = helper.make_graph(
        nodes,
        "planted",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(weight, f"weight{place}") for place, weight in enumerate(weights)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a network to try a search on.")
    parser.add_argument("folder", type=Path)
    write_example(parser.parse_args().folder)
