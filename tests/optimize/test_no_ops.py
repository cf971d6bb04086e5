"""What would silently be something else than its name says ends as a failed variant, and says why.

Each test plants one of the ways in which other tools were seen to do nothing, or another thing, and report success.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from weighbridge.optimize.adoption import adopt
from weighbridge.optimize.backends.base import OpenOptions
from weighbridge.optimize.backends.onnxruntime_backend import make_session
from weighbridge.optimize.cache import ArtifactCache
from weighbridge.optimize.errors import BuildError, UnavailableError
from weighbridge.optimize.model import Batch, Examples, OnnxModel, Signature
from weighbridge.optimize.onnx_audit import (
    census_of,
    integer_activation_products,
    mismatch,
    need_no_activation_products,
)
from weighbridge.optimize.onnx_files import count_nodes
from weighbridge.optimize.quiet import quiet
from weighbridge.optimize.recipe import step_from_dict
from weighbridge.optimize.techniques import StepResult, dynamic_int8, technique

Get = Callable[[str], Any]
ROWS = {"x": np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)}


@pytest.fixture
def apply_step(tmp_path: Path) -> Callable[..., StepResult]:
    """A function (model, name, data=()) -> what the technique of that name returns."""

    def run(model: OnnxModel, name: str, data: tuple[Batch, ...] = ()) -> StepResult:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        return technique(name).apply(model, step_from_dict({"use": name}), Examples((), data), folder)

    return run


def saved(folder: Path, nodes: list[Any], weights: dict[str, NDArray[Any]]) -> OnnxModel:
    """A graph from `x`, six features a row, to `y`."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(made, opset_imports=domains, ir_version=10), str(folder / "given.onnx"))
    return OnnxModel(folder / "given.onnx", Signature("classifier", (), ("y",)))


def attention(folder: Path) -> OnnxModel:
    """One product with a weight and, as in attention, one of two activations."""
    weight = np.random.default_rng(1).standard_normal((6, 6)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["q"], name="query"),
        helper.make_node("Transpose", ["q"], ["k"], name="transpose", perm=[1, 0]),
        helper.make_node("MatMul", ["q", "k"], ["y"], name="scores"),
    ]
    return saved(folder, nodes, {"w": weight})


@pytest.mark.parametrize("use", ["dynamic-int8", "static-int8", "weight-only"])
def test_quantizing_nothing_is_a_failure(tmp_path: Path, apply_step: Any, use: str) -> None:
    """A graph whose only products are of activations has nothing to quantize; no quantizer of ours calls that INT8."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], name="transpose", perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"], name="scores"),
    ]
    model = saved(tmp_path, nodes, {})
    with pytest.raises(BuildError, match=f"{use} replaced no node"):
        apply_step(model, use, (ROWS,))


def test_packing_replaces_gemm_too(onnx_model: Get, apply_step: Any) -> None:
    """ONNX Runtime's packer alone replaces nothing in a graph of Gemm, as GPT-2 can be exported, and says nothing; ours does."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with quiet():
        alone = MatMulNBitsQuantizer(onnx.load(str(onnx_model("mlp").path)), bits=4, block_size=32)
        alone.process()
    assert "MatMulNBits" not in count_nodes(alone.model.model)
    assert apply_step(onnx_model("mlp"), "weight-only").details["nodes_replaced"] == {"MatMul": 2}
    assert apply_step(onnx_model("gpt2"), "weight-only").details["nodes_replaced"] == {"MatMul": 9}


def test_an_int8_name_on_a_float_file_is_refused(onnx_model: Get) -> None:
    """A quantizer that did nothing leaves a float file, which no audit passes as INT8."""
    census = census_of(onnx.load(str(onnx_model("bert").path)))
    assert "no node computes in integers" in mismatch("int8", census)


def test_dynamic_int8_leaves_products_of_activations(tmp_path: Path, apply_step: Any) -> None:
    """Without `MatMulConstBOnly` ONNX Runtime quantizes them too, and the check sees that; ours does not."""
    from onnxruntime.quantization import quantize_dynamic

    model = attention(tmp_path)
    with quiet():
        quantize_dynamic(str(model.path), str(tmp_path / "plain.onnx"), extra_options={"MatMulConstBOnly": False})
    assert len(integer_activation_products(onnx.load(str(tmp_path / "plain.onnx")))) == 1
    ours = apply_step(model, "dynamic-int8").model
    assert integer_activation_products(onnx.load(str(ours.path))) == ()


def test_static_int8_leaves_products_of_activations(tmp_path: Path, apply_step: Any) -> None:
    """`MatMulConstBOnly` has no effect on Q/DQ graphs, and the check sees that; ours excludes them by name."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = [ROWS]

        def get_next(self) -> Any:
            return self.left.pop() if self.left else None

    model = attention(tmp_path)
    with quiet():
        options = {"MatMulConstBOnly": True}
        quantize_static(str(model.path), str(tmp_path / "plain.onnx"), Reader(), extra_options=options)
    assert integer_activation_products(onnx.load(str(tmp_path / "plain.onnx"))) == ("scores",)
    ours = apply_step(model, "static-int8", (ROWS,)).model
    assert integer_activation_products(onnx.load(str(ours.path))) == ()


def test_nodes_without_names_hide_no_product_of_activations(tmp_path: Path, apply_step: Any) -> None:
    """Nodes are excluded by name; where a file gives none, the product is still left and the layer still quantized."""
    model = attention(tmp_path)
    graph = onnx.load(str(model.path))
    for node in graph.graph.node:
        node.name = ""
    onnx.save(graph, str(model.path))
    for use in ("dynamic-int8", "static-int8"):
        result = apply_step(model, use, (ROWS,))
        assert result.details["layers_quantized"] == ["q"]
        assert integer_activation_products(onnx.load(str(result.model.path))) == ()


def test_a_quantizer_that_quantizes_them_all_the_same_fails_the_step(
    tmp_path: Path, apply_step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should the runtime's option change its meaning, the step ends as an error that names the product."""
    from onnxruntime.quantization import quantize_dynamic

    def unasked(graph: Any, path: Path, op_types: list[str], _: Any) -> None:
        quantize_dynamic(graph, str(path), op_types_to_quantize=op_types, extra_options={"MatMulConstBOnly": False})

    monkeypatch.setattr(dynamic_int8, "_quantize", unasked)
    with pytest.raises(BuildError, match=r"dynamic-int8 quantized 1 products of two activations \(scores_quant, ...\)"):
        apply_step(attention(tmp_path), "dynamic-int8")


@pytest.mark.parametrize(
    ("op_type", "inputs", "weights"),
    [
        ("MatMulInteger", ["a", "b"], ["b"]),
        ("QLinearMatMul", ["a", "s", "z", "b", "s", "z", "s", "z"], ["b"]),
        ("DynamicQuantizeMatMul", ["x", "b", "s"], ["b"]),
    ],
)
def test_every_integer_product_is_looked_at(op_type: str, inputs: list[str], weights: list[str]) -> None:
    """With a weight among its factors an integer product is fine, whatever its operator; without one it is not."""
    node = helper.make_node(op_type, inputs, ["y"], name="product")
    for constants, expected in ((weights, ()), ([], ("product",))):
        tensors = [numpy_helper.from_array(np.ones((2, 2), np.int8), name) for name in constants]
        model = helper.make_model(helper.make_graph([node], "g", [], [], tensors))
        assert integer_activation_products(model) == expected
    need_no_activation_products(helper.make_model(helper.make_graph([], "g", [], [])), "any")


def test_a_fused_layer_in_float_is_seen() -> None:
    """A float weight in an operator that ONNX Runtime fused counts against INT8, as it would in the plain one."""
    tensors = {"w": np.ones((60, 60), np.float32), "q": np.ones((6, 6), np.int8)}
    nodes = [
        helper.make_node("FusedGemm", ["x", "w"], ["f"], domain="com.microsoft"),
        helper.make_node("MatMulInteger", ["x", "q"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [], [], [numpy_helper.from_array(a, name) for name, a in tensors.items()])
    reason = mismatch("int8", census_of(helper.make_model(graph)))
    assert "14400 bytes against 36 weights in 8 bits or fewer; left: 1 FusedGemm" in reason


def test_a_provider_that_is_not_there_is_no_cpu_run(onnx_model: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for CUDA, ONNX Runtime without it gives a CPU session and a warning; here it is an error, before and after."""
    cuda = OpenOptions(provider="cuda")
    with pytest.raises(
        UnavailableError, match="asked for CUDAExecutionProvider, but the installed ONNX Runtime has only"
    ):
        make_session(onnx_model("mlp").path, cuda)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    fell_back = "asked for CUDAExecutionProvider, but ONNX Runtime silently fell back to CPU"
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"), pytest.raises(BuildError, match=fell_back):
        make_session(onnx_model("mlp").path, cuda)


def test_bytes_are_those_of_the_saved_files(onnx_model: Get, probes: Any, tmp_path: Path) -> None:
    """A model with its weights in a second file is as large as the two together, whatever it says of itself."""
    graph = onnx.load(str(onnx_model("bert").path))
    path = tmp_path / "model.onnx"
    onnx.save_model(
        graph, str(path), save_as_external_data=True, location="weights.bin", size_threshold=64, convert_attribute=True
    )
    cache = ArtifactCache(tmp_path / "cache")
    variant = adopt(path, "onnxruntime", "fp32", examples=Examples(probes["bert"]), cache=cache)
    assert variant.manifest.bytes == path.stat().st_size + (tmp_path / "weights.bin").stat().st_size
