"""Half precision converts every floating-point weight of a copy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from weighbridge.optimize.errors import BuildError
from weighbridge.optimize.model import OnnxModel, Signature, TorchModel
from weighbridge.optimize.onnx_files import weights_of

Get = Callable[[str], Any]


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["bert", "gpt2", "lstm", "mlp"])
def test_a_module_is_converted_and_the_source_kept(torch_model: Get, apply: Any, name: str, dtype: str) -> None:
    """Every parameter has the new type and is the old one rounded; the module given stays as it was."""
    import torch

    wanted = {"bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    result = apply(torch_model(name), "half-precision", dtype=dtype)
    before, after = torch_model(name).module.state_dict(), result.model.module.state_dict()
    for key, value in before.items():
        assert value.dtype != wanted
        assert torch.equal(after[key], value.to(wanted) if value.is_floating_point() else value)
    counted = sum(parameter.numel() for parameter in torch_model(name).module.parameters())
    assert result.details == {"parameters_converted": counted}


def test_half_precision_wants_a_module_with_weights(onnx_model: Get, apply: Any) -> None:
    """An ONNX graph is sent to the other technique; a module without weights is refused."""
    import torch

    with pytest.raises(BuildError, match="use onnx-half-precision for ONNX graphs"):
        apply(onnx_model("mlp"), "half-precision")
    empty = TorchModel(torch.nn.ReLU(), Signature("classifier", (), ("logits",)))
    with pytest.raises(BuildError, match="half-precision found no floating-point weight"):
        apply(empty, "half-precision")


@pytest.mark.parametrize("name", ["bert", "cnn", "lstm", "mlp"])
def test_a_graph_is_converted_with_fp32_ends(
    onnx_model: Get, apply: Any, run_model: Any, probes: dict[str, Any], name: str
) -> None:
    """No FP32 weight is left, inputs and outputs stay FP32, and the scores stay within a hundredth of the largest."""
    result = apply(onnx_model(name), "onnx-half-precision")
    graph = onnx.load(str(result.model.path))
    kinds = {array.dtype.name for _, array in weights_of(graph)}
    assert "float16" in kinds
    assert "float32" not in kinds
    assert graph.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    for probe in probes[name]:
        expected = run_model(onnx_model(name), probe)
        assert np.abs(run_model(result.model, probe) - expected).max() < 0.01 * np.abs(expected).max()


def test_operators_can_be_kept_in_fp32(onnx_model: Get, apply: Any, run_model: Any, probes: dict[str, Any]) -> None:
    """The weights of an operator type that is kept stay FP32, and the graph still runs."""
    result = apply(onnx_model("cnn"), "onnx-half-precision", keep_fp32=["Gemm"])
    kinds = [array.dtype.name for _, array in weights_of(onnx.load(str(result.model.path))) if array.ndim == 2]
    assert kinds == ["float32"]
    assert np.isfinite(run_model(result.model, probes["cnn"][0])).all()


def test_graph_conversion_wants_a_graph(torch_model: Get, apply: Any, tmp_path: Any) -> None:
    """A torch module is sent to the other technique; a file that is no graph ends in a sentence."""
    with pytest.raises(BuildError, match="use half-precision for torch modules"):
        apply(torch_model("mlp"), "onnx-half-precision")
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(BuildError, match="onnx-half-precision: the converter refused the graph: "):
        apply(OnnxModel(tmp_path / "bad.onnx", Signature("classifier", (), ("y",))), "onnx-half-precision")


def test_a_graph_without_weights_is_refused(tmp_path: Any, apply: Any) -> None:
    """Where there is no weight to convert the text says so."""
    from onnx import TensorProto, helper

    inputs, outputs = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3])] for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="r")], "g", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), str(tmp_path / "given.onnx"))
    with pytest.raises(BuildError, match="onnx-half-precision found no weight to convert"):
        apply(OnnxModel(tmp_path / "given.onnx", Signature("classifier", (), ("y",))), "onnx-half-precision")
