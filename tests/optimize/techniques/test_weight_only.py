"""Weight-only quantization replaces every product with a weight, says what it left, and packs as it should."""

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from weighbridge.optimize.errors import BuildError, ConfigError
from weighbridge.optimize.model import OnnxModel, Signature
from weighbridge.optimize.onnx_audit import census_of, mismatch
from weighbridge.optimize.onnx_files import count_nodes, read_valid, weights_of
from weighbridge.optimize.onnx_gemm import replace_gemm
from weighbridge.optimize.onnx_layers import layers_of, quantizable_layers
from weighbridge.optimize.onnx_packed import packed_weights
from weighbridge.optimize.parity import reference_of
from weighbridge.optimize.recipe import step_from_dict

Get = Callable[[str], Any]
TWO = "MatMul (product of two activations)"
ATTENTION = "Attention (products of activations)"
LOOKUP = "Gather (looked up, not multiplied)"


def graph(
    folder: Path, nodes: list[Any], weights: dict[str, Any], width: int, outputs: tuple[str, ...] = ("y",)
) -> OnnxModel:
    """A graph from `x` (rows, width) to `outputs` of the given nodes and weights."""
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, str(folder / "given.onnx"))
    return OnnxModel(folder / "given.onnx", Signature("classifier", (), outputs))


def normal(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    ("name", "replaced", "left"),
    [
        ("bert", 14, {LOOKUP: 3, TWO: 4}),
        ("gpt2", 9, {LOOKUP: 2, ATTENTION: 2}),
        ("llama", 15, {LOOKUP: 1, ATTENTION: 2}),
        ("mlp", 2, {}),
        ("cnn", 1, {"Conv (no packed form)": 2}),
        ("lstm", 1, {LOOKUP: 1, "LSTM (no packed form)": 2}),
    ],
)
def test_every_product_with_a_weight_is_replaced(
    onnx_model: Get, apply: Any, name: str, replaced: int, left: dict[str, int], bits: int
) -> None:
    """Layers counted by hand: 2 x (4 + 2) + 2 in BERT, 2 x 4 + 1 in GPT-2, 2 x 7 + 1 in Llama; the rest says why it is left."""
    result = apply(onnx_model(name), "weight-only", bits=bits)
    assert result.details["nodes_replaced"] == {"MatMul": replaced}
    assert result.details["nodes_left"] == left
    nodes = count_nodes(read_valid(result.model.path))
    assert nodes["MatMulNBits"] == replaced
    assert "Gemm" not in nodes
    sizes = result.details["weight_bytes"]
    for when, path in (("before", onnx_model(name).path), ("after", result.model.path)):
        assert sizes[when] == sum(array.nbytes for _, array in weights_of(onnx.load(str(path))))


@pytest.mark.parametrize(("bits", "share"), [(4, 0.6), (8, 0.05)])
@pytest.mark.parametrize("name", ["mlp", "cnn", "lstm"])
def test_answers_stay_near(
    onnx_model: Get, apply: Any, run_model: Any, probes: dict[str, Any], name: str, bits: int, share: float
) -> None:
    """At every shape the scores of small untrained models stay within a share of the largest, with 8 bits a small one."""
    result = apply(onnx_model(name), "weight-only", bits=bits)
    for probe in probes[name]:
        expected, found = run_model(onnx_model(name), probe), run_model(result.model, probe)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < share * np.abs(expected).max()


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_decoder_still_reads_its_cache(
    torch_model: Get, onnx_model: Get, apply: Any, probes: dict[str, Any], name: str
) -> None:
    """With 8-bit weights prefill, padding and steps on the cache give nearly the module's logits."""
    reference = reference_of(torch_model(name), probes[name])
    parity = reference.verify_model(apply(onnx_model(name), "weight-only", bits=8).model, exact=False)
    assert parity.cosine > 0.99
    assert parity.agreement > 0.9


def by_hand(weight: NDArray[np.float32], bits: int, size: int, *, symmetric: bool) -> NDArray[np.float64]:
    """Each block of a column rounded to its own grid and back, one number after the other.

    Asymmetric: the range, widened to hold zero, is cut in 2^bits - 1 steps, and zero is one of the grid's numbers.
    Symmetric: the number farthest from zero becomes -2^(bits - 1).
    """
    top = 2**bits - 1
    result = np.zeros(weight.shape)
    for column in range(weight.shape[1]):
        for start in range(0, weight.shape[0], size):
            block = weight[start : start + size, column].astype(np.float64)
            if symmetric:
                scale = block[np.abs(block).argmax()] / -(2 ** (bits - 1))
                zero = 2.0 ** (bits - 1)
            else:
                scale = (max(block.max(), 0) - min(block.min(), 0)) / top
                zero = np.round(-min(block.min(), 0) / scale)
            numbers = np.clip(np.round(block / scale + zero), 0, top)
            result[start : start + size, column] = (numbers - zero) * scale
    return result


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("bits", "size"), [(4, 16), (4, 32), (8, 16), (8, 64)])
def test_packed_weights_are_those_of_a_quantizer_by_hand(
    tmp_path: Path, apply: Any, bits: int, size: int, symmetric: bool
) -> None:
    """Block by block, the last one short, the packed numbers stand for what plain rounding gives; the error told is theirs."""
    weight = normal(40, 5)
    model = graph(tmp_path, [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")], {"w": weight}, 40)
    result = apply(model, "weight-only", bits=bits, block_size=size, symmetric=symmetric)
    (packed,) = packed_weights(onnx.load(str(result.model.path)))
    expected = by_hand(weight, bits, size, symmetric=symmetric)
    found = packed.dequantized()
    assert packed.scales.shape == (5, -(-40 // size))
    assert np.abs(found - expected).max() < 1e-5 * np.abs(weight).max()
    error = np.sqrt(np.square(found - weight).sum() / np.square(weight).sum())
    assert result.details["weight_error"] == pytest.approx(error, rel=1e-5)


@pytest.mark.parametrize("level", [0, 1, 2, 3, 4])
def test_the_runtime_multiplies_the_packed_weight(tmp_path: Path, apply: Any, run_model: Any, level: int) -> None:
    """At every accuracy level the answers are x times the dequantized weight, with INT8 arithmetic to a hundredth."""
    model = graph(tmp_path, [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")], {"w": normal(64, 8)}, 64)
    result = apply(model, "weight-only", accuracy_level=level)
    written = onnx.load(str(result.model.path))
    (packed,) = packed_weights(written)
    batch = {"x": normal(3, 64)}
    expected = batch["x"] @ packed.dequantized()
    assert (
        np.abs(run_model(result.model, batch) - expected).max()
        < (0.02 if level == 4 else 1e-3) * np.abs(expected).max()
    )
    levels = [attribute.i for attribute in written.graph.node[0].attribute if attribute.name == "accuracy_level"]
    assert levels == ([level] if level else [])


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [[], ["c"]])
def test_a_gemm_becomes_the_same_product(tmp_path: Path, run_model: Any, transposed: int, bias: list[str]) -> None:
    """MatMul and Add, the weight transposed where the Gemm did so, give the Gemm's own answers."""
    weight = normal(7, 5)
    weights = {"w": np.ascontiguousarray(weight.T) if transposed else weight, "c": normal(5)}
    nodes = [helper.make_node("Gemm", ["x", "w", *bias], ["y"], transB=transposed, name="g")]
    given = graph(tmp_path, nodes, weights, 7)
    expected = run_model(given, {"x": normal(3, 7)})
    model = onnx.load(str(given.path))
    replace_gemm(model)
    onnx.save(model, str(tmp_path / "given.onnx"))
    assert count_nodes(model) == ({"Add": 1, "MatMul": 1} if bias else {"MatMul": 1})
    assert np.abs(run_model(given, {"x": normal(3, 7)}) - expected).max() < 1e-5


def test_a_weight_of_several_nodes_serves_them_all(tmp_path: Path, apply: Any, run_model: Any) -> None:
    """A square weight used as it is, twice, and transposed, twice, is packed once each way; every answer stays right."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="1"),
        helper.make_node("Gemm", ["a", "w"], ["b"], name="2", transB=1),
        helper.make_node("Gemm", ["b", "w"], ["c"], name="3", transB=1),
        helper.make_node("MatMul", ["c", "w"], ["y"], name="4"),
    ]
    given = graph(tmp_path, nodes, {"w": normal(16, 16)}, 16)
    result = apply(given, "weight-only", bits=8, accuracy_level=0)
    assert result.details["nodes_replaced"] == {"MatMul": 4}
    written = read_valid(result.model.path)
    names = [tensor.name for tensor in written.graph.initializer]
    assert len(names) == len(set(names))
    assert len(list(packed_weights(written))) == 2
    expected = run_model(given, {"x": normal(3, 16)})
    assert np.abs(run_model(result.model, {"x": normal(3, 16)}) - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("node", "weights", "reason"),
    [
        (helper.make_node("Relu", ["x"], ["y"]), {}, "left: nothing"),
        (helper.make_node("MatMul", ["x", "x"], ["y"]), {}, r"left: 1 MatMul \(product of two activations\)"),
        (
            helper.make_node("Gemm", ["x", "w"], ["y"], alpha=0.5),
            {"w": normal(4, 4)},
            r"1 Gemm \(alpha, beta or transA",
        ),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transA=1), {"w": normal(4, 4)}, r"1 Gemm \(alpha, beta or transA"),
        (
            helper.make_node("MatMul", ["w", "x"], ["y"]),
            {"w": normal(4, 4)},
            r"1 MatMul \(the weight is no matrix on the right",
        ),
        (
            helper.make_node("MatMul", ["x", "w"], ["y"]),
            {"w": normal(2, 4, 4)},
            r"1 MatMul \(the weight is no matrix on",
        ),
    ],
)
def test_a_graph_in_which_nothing_is_replaced_is_refused(
    tmp_path: Path, apply: Any, node: Any, weights: dict[str, Any], reason: str
) -> None:
    """What the quantizer passes over in silence ends as an error that names each node left and why."""
    with pytest.raises(BuildError, match=f"weight-only replaced no node; .*{reason}"):
        apply(graph(tmp_path, [node], weights, 4), "weight-only")


@pytest.mark.parametrize(("bits", "name", "other"), [(4, "int4", "int8"), (8, "int8", "int4")])
def test_the_audit_takes_it_for_what_it_is(onnx_model: Get, apply: Any, bits: int, name: str, other: str) -> None:
    """The file passes as its own precision and as no other; parameters and zeros are counted as before packing."""
    before = census_of(onnx.load(str(onnx_model("gpt2").path)))
    census = census_of(onnx.load(str(apply(onnx_model("gpt2"), "weight-only", bits=bits).model.path)))
    assert mismatch(name, census) == ""
    assert "small weights are stored in" in mismatch(other, census)
    assert mismatch("fp32", census) == "asked for fp32, but 9 nodes compute in integers"
    head, layers = 32 * 400, 2 * 32 * (96 + 32 + 128 + 128)
    assert census.parameters == before.parameters + head
    assert census.weight_bytes[name] == (head + layers) * bits // 8
    assert (census.four_bit, census.eight_bit) == ((head + layers, 0) if bits == 4 else (0, head + layers))


@pytest.mark.parametrize("name", ["gpt2", "mlp"])
def test_excluded_layers_stay_in_float(onnx_model: Get, apply: Any, name: str) -> None:
    """A layer named in `exclude` is not packed and is listed as left, every other one is; the manifest's lists say both."""
    everything = [layer.name for layer in quantizable_layers(onnx_model(name).path)]
    kept, *others = everything
    result = apply(onnx_model(name), "weight-only", bits=8, exclude=(kept,))
    assert [layer.name for layer in layers_of(onnx.load(str(result.model.path)))] == [kept]
    assert result.details["layers_excluded"] == [kept]
    assert result.details["layers_quantized"] == others
    assert result.details["nodes_left"]["MatMul (excluded)"] == 1


def test_a_layer_that_is_not_there_cannot_be_excluded(onnx_model: Get, apply: Any) -> None:
    """A misspelt name is refused with the nearest one."""
    with pytest.raises(ConfigError, match=r"step 'weight-only' cannot exclude 'haed': .*; did you mean 'head'\?"):
        apply(onnx_model("mlp"), "weight-only", exclude=("haed",))


def test_what_is_packed_already_is_not_counted_again(tmp_path: Path, apply: Any) -> None:
    """Of a file with a packed weight and a plain one the plain one alone is replaced; then there is nothing left to do."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")]
    once = apply(graph(tmp_path, nodes, {"w": normal(64, 8)}, 64), "weight-only", bits=8).model
    with pytest.raises(BuildError, match="weight-only replaced no node; .*left: nothing"):
        apply(once, "weight-only")
    model = onnx.load(str(once.path))
    model.graph.node.append(helper.make_node("MatMul", ["y", "v"], ["z"], name="n"))
    model.graph.initializer.append(numpy_helper.from_array(np.eye(8, dtype=np.float32), "v"))
    model.graph.output[0].name = "z"
    onnx.save(model, str(once.path))
    details = apply(once, "weight-only").details
    assert details["nodes_replaced"] == {"MatMul": 1}
    assert details["weight_error"] == pytest.approx(0, abs=1e-6)


def test_pruned_weights_stay_zero(tmp_path: Path, apply: Any) -> None:
    """Zeros among the weights are zeros among the packed numbers, and the audit's sparsity counts them."""
    weight = normal(64, 8)
    weight[::2] = 0
    model = graph(tmp_path, [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")], {"w": weight}, 64)
    result = apply(model, "weight-only", bits=8)
    census = census_of(onnx.load(str(result.model.path)))
    assert census.parameters == 512
    assert 256 <= census.zeros <= 264


def test_other_models_are_refused(torch_model: Get, tmp_path: Path, apply: Any) -> None:
    """A torch module and a file that is no graph each end in a sentence."""
    with pytest.raises(BuildError, match="weight-only quantizes ONNX graphs only"):
        apply(torch_model("mlp"), "weight-only")
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(BuildError, match="weight-only: the quantizer refused the graph: "):
        apply(OnnxModel(tmp_path / "bad.onnx", Signature("classifier", (), ("y",))), "weight-only")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bits": 3}, "bits: Input should be 4 or 8; given 3"),
        ({"block_size": 48}, "block_size: Input should be 16, 32, 64, 128 or 256; given 48"),
        ({"accuracy_level": 5}, "accuracy_level: Input should be 0, 1, 2, 3 or 4; given 5"),
    ],
)
def test_wrong_options_name_what_is_allowed(options: dict[str, Any], words: str) -> None:
    """A number that the operator does not know is answered with those that it does."""
    with pytest.raises(ConfigError, match=words):
        step_from_dict({"use": "weight-only", **options})


def test_the_root_logger_stays_as_it_was() -> None:
    """The quantizer's import sets the root logger up; ours leaves it without handlers and at its level."""
    code = (
        "import logging, sys\n"
        "from weighbridge.optimize.techniques.weight_only import _quantizer_class\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "_quantizer_class()\n"
        "print(logging.root.handlers, logging.root.level)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"[] {logging.WARNING}"
