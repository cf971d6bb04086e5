"""Reading, checking and looking into ONNX files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from weighbridge.optimize.errors import InputError
from weighbridge.optimize.loading import describe
from weighbridge.optimize.model import OnnxModel, TensorSpec
from weighbridge.optimize.onnx_files import (
    bytes_of,
    count_nodes,
    external_files,
    is_parameter,
    nodes_of,
    read_signature,
    read_valid,
    weights_of,
)

FLOAT = TensorProto.FLOAT


def linear(weight: np.ndarray[Any, Any], *, outputs: list[Any] | None = None) -> Any:
    """A graph of one matrix product, x (batch, rows of weight) -> y."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", FLOAT, ["batch", weight.shape[0]])],
        outputs or [helper.make_tensor_value_info("y", FLOAT, ["batch", weight.shape[1]])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def with_external_data(path: Path, location: str) -> Path:
    """Save a graph whose weights lie in the file `location`, which is written beside it under a plain name."""
    onnx.save(
        linear(np.eye(64, dtype=np.float32)), str(path), save_as_external_data=True, location="w.bin", size_threshold=0
    )
    model = onnx.load(str(path), load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9, 0.999])
def test_a_cut_file_is_refused(onnx_model: Callable[[str], OnnxModel], tmp_path: Path, cut: float) -> None:
    """A file that was cut short anywhere is an input error that names it."""
    data = onnx_model("cnn").path.read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(InputError, match=r"cut\.onnx is not an? (valid )?ONNX model"):
        read_valid(path)


@pytest.mark.parametrize("data", [b"", b"not a model at all, but some text\n", b"PK\x03\x04zip", bytes(range(256))])
def test_what_is_no_model_is_refused(tmp_path: Path, data: bytes) -> None:
    """Empty files, text, archives and noise are input errors."""
    path = tmp_path / "other.onnx"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"other\.onnx is not an ONNX model"):
        read_valid(path)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    """A path that is no file says so."""
    for path in (tmp_path / "absent.onnx", tmp_path):
        with pytest.raises(InputError, match=r"is not a file; give an \.onnx file"):
            read_valid(path)


def test_an_invalid_graph_is_refused(tmp_path: Path) -> None:
    """A graph that uses what nothing makes is not valid, and the checker's reason is told."""
    model = linear(np.eye(2, dtype=np.float32))
    model.graph.node[0].input[0] = "nobody"
    path = tmp_path / "invalid.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"invalid\.onnx is not a valid ONNX model: ValidationError"):
        read_valid(path)


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret.bin", "a/../../b", "C:\\w.bin", "\\\\host\\w.bin", ""])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    """Absolute paths and paths that climb out, on any system, are never followed."""
    path = with_external_data(tmp_path / "m.onnx", location)
    for read in (read_valid, external_files):
        with pytest.raises(InputError, match=r"refers to external data at .*only files beside the model are read"):
            read(path)


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    """A model whose weights were left behind says which file is missing."""
    path = with_external_data(tmp_path / "m.onnx", "gone.bin")
    with pytest.raises(InputError, match=r"keeps its weights in 'gone\.bin', which is missing beside it"):
        read_valid(path)


def test_external_data_is_read_and_hashed(tmp_path: Path) -> None:
    """Weights beside the file are read with it, listed, and part of the model's hash."""
    path = with_external_data(tmp_path / "m.onnx", "w.bin")
    assert external_files(path) == ("w.bin",)
    weights = dict(weights_of(read_valid(path)))
    assert np.array_equal(weights["w"], np.eye(64))
    before = describe("onnx", str(path), "tabular-classification").sha256
    data = bytearray((tmp_path / "w.bin").read_bytes())
    data[0] ^= 1
    (tmp_path / "w.bin").write_bytes(data)
    assert describe("onnx", str(path), "tabular-classification").sha256 != before


def test_weights_among_the_inputs_are_no_inputs() -> None:
    """Old files list initializers as inputs; a signature does not."""
    model = linear(np.eye(2, dtype=np.float32))
    model.graph.input.append(helper.make_tensor_value_info("w", FLOAT, [2, 2]))
    assert read_signature(model).inputs == (TensorSpec("x", "float32", ("batch", 2)),)


def test_sizes_without_name_or_value_are_free() -> None:
    """Unknown, unnamed and negative sizes are free dimensions, named by their axis."""
    model = linear(np.eye(2, dtype=np.float32))
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("x", TensorProto.INT64, [None, -1, "n", 3]))
    assert read_signature(model).inputs == (TensorSpec("x", "int64", ("dim0", "dim1", "n", 3)),)


def test_scores_come_before_labels() -> None:
    """A graph that gives the label first and then the scores has the scores as first output."""
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
        helper.make_tensor_value_info("y", FLOAT, ["batch", 2]),
    ]
    assert read_signature(linear(np.eye(2, dtype=np.float32), outputs=outputs)).outputs == ("y", "label")


def test_inputs_that_are_no_numbers_are_refused() -> None:
    """String tensors and sequences cannot be weighed, and the input is named."""
    model = linear(np.eye(2, dtype=np.float32))
    for value in (
        helper.make_tensor_value_info("x", TensorProto.STRING, [1]),
        helper.make_tensor_sequence_value_info("x", FLOAT, [1]),
    ):
        del model.graph.input[:]
        model.graph.input.append(value)
        with pytest.raises(InputError, match="input 'x' is not a tensor of numbers"):
            read_signature(model)


def branching() -> Any:
    """A graph whose weights lie in an initializer, a Constant node and a branch of an If node."""
    inner = helper.make_graph(
        [helper.make_node("Add", ["x", "inner"], ["z"])],
        "then",
        [],
        [helper.make_tensor_value_info("z", FLOAT, None)],
        [numpy_helper.from_array(np.full(3, 3, np.float32), "inner")],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])], "else", [], [helper.make_tensor_value_info("z", FLOAT, None)]
    )
    constant = numpy_helper.from_array(np.full(2, 2, np.float32), "ignored")
    nodes = [
        helper.make_node("Constant", [], ["constant"], value=constant),
        helper.make_node("If", ["flag"], ["y"], then_branch=inner, else_branch=other),
    ]
    flag = numpy_helper.from_array(np.array(True), "flag")
    inputs = [helper.make_tensor_value_info("x", FLOAT, [3])]
    return helper.make_model(
        helper.make_graph(nodes, "branching", inputs, [helper.make_tensor_value_info("y", FLOAT, [3])], [flag])
    )


def test_nodes_and_weights_of_branches_are_counted() -> None:
    """Operators and weights inside subgraphs count like those outside, and so do Constant nodes."""
    model = branching()
    assert count_nodes(model) == {"Add": 1, "Constant": 1, "Identity": 1, "If": 1}
    assert sorted(name for name, _ in weights_of(model)) == ["constant", "flag", "inner"]


def test_nodes_of_functions_are_counted() -> None:
    """Operators of a model's own functions count like the graph's."""
    model = linear(np.eye(2, dtype=np.float32))
    body = [helper.make_node("Relu", ["a"], ["b"])]
    model.functions.append(
        helper.make_function("own", "Twice", ["a"], ["b"], body, opset_imports=[helper.make_opsetid("", 20)])
    )
    assert sorted(node.op_type for node in nodes_of(model)) == ["MatMul", "Relu"]


def test_two_numbers_of_four_bits_share_a_byte() -> None:
    """Five 4-bit numbers take three bytes in the file; others take their size."""
    packed = numpy_helper.to_array(helper.make_tensor("t", TensorProto.INT4, [5], [1, -2, 3, -4, 5]))
    assert bytes_of(packed) == 3
    assert bytes_of(np.zeros(5, np.float16)) == 10


@pytest.mark.parametrize(
    ("name", "array", "expected"),
    [
        ("w", np.zeros((2, 2), np.float32), True),
        ("w", np.zeros((2, 2), np.int8), True),
        ("bias_quantized", np.zeros(2, np.int32), True),
        ("shape", np.zeros(2, np.int64), False),
        ("index", np.zeros(2, np.int32), False),
        ("epsilon", np.float32(1e-5), False),
        ("w_scale", np.zeros(2, np.float32), False),
        ("w_zero_point", np.zeros(2, np.int8), False),
    ],
)
def test_shapes_scalars_and_scales_are_no_parameters(name: str, array: Any, expected: bool) -> None:
    """Learnt numbers count as parameters; shapes, indices, constants and a quantizer's own numbers do not."""
    assert is_parameter(name, np.asarray(array)) is expected


def in_a_function(model: Any, tensor: Any) -> None:
    """Put a tensor into a Constant of a function that the graph calls."""
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    body = [constant, helper.make_node("Add", ["a", "c"], ["b"])]
    opsets = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("ours", "Shift", ["a"], ["b"], body, opsets))


def in_a_sparse_initializer(model: Any, tensor: Any) -> None:
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(tensor)
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([0], np.int64), "i"))
    sparse.dims.append(4)


def in_a_branch(model: Any, tensor: Any) -> None:
    """Put a tensor among the weights of a branch of an If."""
    branch = helper.make_graph(
        [helper.make_node("Identity", [tensor.name], ["o"])],
        "branch",
        [],
        [helper.make_tensor_value_info("o", FLOAT, [1])],
        [tensor],
    )
    model.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch))


@pytest.mark.parametrize("hide", [in_a_function, in_a_sparse_initializer, in_a_branch])
def test_external_data_is_found_wherever_it_hides(tmp_path: Path, hide: Callable[[Any, Any], None]) -> None:
    """Tensors of functions, sparse tensors and branches may not refer to files outside the folder either."""
    tensor = numpy_helper.from_array(np.ones(1, np.float32), "secret")
    onnx.external_data_helper.set_external_data(tensor, "../secret.bin")
    tensor.ClearField("raw_data")
    model = linear(np.eye(2, dtype=np.float32))
    hide(model, tensor)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    for read in (read_valid, external_files):
        with pytest.raises(InputError, match=r"refers to external data at '\.\./secret\.bin'"):
            read(path)


@pytest.mark.parametrize(
    ("inputs", "outputs", "sentence"),
    [
        ([], None, "the model has 0 inputs and 1 outputs; it needs one of each at least"),
        (None, [], "the model has 1 inputs and 0 outputs"),
        ([helper.make_tensor_value_info("x", 999, [1])], None, "input 'x' is not a tensor of numbers"),
        ([helper.make_tensor_value_info("x", TensorProto.STRING, [1])], None, "input 'x' is not a tensor of numbers"),
        ([helper.make_tensor_sequence_value_info("x", FLOAT, [1])], None, "input 'x' is not a tensor of numbers"),
    ],
)
def test_a_graph_without_ends_of_numbers_is_refused(
    inputs: list[Any] | None, outputs: list[Any] | None, sentence: str
) -> None:
    """A graph that takes or gives nothing, or takes what are no numbers, has no signature."""
    model = linear(np.eye(2, dtype=np.float32))
    for field, ends in ((model.graph.input, inputs), (model.graph.output, outputs)):
        if ends is not None:
            del field[:]
            field.extend(ends)
    with pytest.raises(InputError, match=sentence):
        read_signature(model)


def test_a_location_that_no_file_can_have_is_missing(tmp_path: Path) -> None:
    """A name that is too long for a file is told as a file that is not there."""
    path = with_external_data(tmp_path / "m.onnx", "w" * 300)
    with pytest.raises(InputError, match="which is missing beside it; put it there"):
        read_valid(path)


@pytest.mark.parametrize("data_type", [33, 0, TensorProto.DOUBLE])
def test_a_weight_that_is_none_is_refused(data_type: int) -> None:
    """A type that nobody knows, or one that the bytes do not fit, is told with the weight's name."""
    model = linear(np.eye(3, dtype=np.float32))
    model.graph.initializer[0].data_type = data_type
    with pytest.raises(InputError, match="the weight 'w' cannot be read .* the model is damaged"):
        list(weights_of(model))
