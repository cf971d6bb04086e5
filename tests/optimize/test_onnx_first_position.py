"""Where a head reads position 0 alone, what follows the last attention is computed for that position; all else stays whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from weighbridge.optimize.errors import BuildError
from weighbridge.optimize.onnx_files import count_nodes
from weighbridge.optimize.onnx_first_position import read_first_position

Get = Callable[[str], Any]
WIDTH, HEADS = 4, 2
FREE = ["batch", "length", WIDTH]
RANDOM = np.random.default_rng(0)
CONSTANTS: dict[str, NDArray[Any]] = {
    "w": RANDOM.standard_normal((WIDTH, WIDTH)).astype(np.float32),
    "wide": RANDOM.standard_normal((WIDTH // 2, WIDTH)).astype(np.float32),
    "bias": RANDOM.standard_normal(WIDTH).astype(np.float32),
    "row": RANDOM.standard_normal((1, 1, WIDTH)).astype(np.float32),
    "scale": RANDOM.standard_normal(WIDTH).astype(np.float32),
    "tenth": np.array(0.1, np.float32),
    "zero": np.array(0),
    "one": np.array(1),
    "heads": np.array([HEADS, WIDTH // HEADS]),
    "joined": np.array([WIDTH]),
    "mean_axes": np.array([1]),
}


def model_of(
    nodes: list[Any], outputs: dict[str, list[Any]], opset: int = 20, dims: list[Any] = FREE, **constants: NDArray[Any]
) -> Any:
    """A model of x (batch, length, 4), whose other dimensions shape inference finds."""
    every = CONSTANTS | constants
    used = {name for node in nodes for name in node.input}
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in every.items() if name in used],
    )
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)], ir_version=10
    )


def first_of(value: str, output: str = "y", index: str = "zero", axis: int = 1) -> Any:
    return helper.make_node("Gather", [value, index], [output], axis=axis)


def answers(model: Any, x: NDArray[np.float32]) -> list[NDArray[Any]]:
    """What a model answers as it is written: ONNX Runtime's optimizer loses values of some of these graphs (1.31)."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    found: list[NDArray[Any]] = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})
    return found


def x_of(batch: int, length: int) -> NDArray[np.float32]:
    return np.random.default_rng(batch * 100 + length).standard_normal((batch, length, WIDTH)).astype(np.float32)


def need_equal(before: Any, after: Any) -> None:
    """The same answers at shapes of which none was noted."""
    for batch, length in ((1, 1), (1, 5), (3, 5)):
        x = x_of(batch, length)
        for one, other in zip(answers(before, x), answers(after, x), strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5 * max(1, np.abs(one).max()))


def changed(model: Any) -> tuple[Any, int]:
    """The changed copy of a model, and how many products compute one position in it."""
    copy = type(model).FromString(model.SerializeToString())
    products = read_first_position(copy)
    onnx.checker.check_model(copy)
    return copy, products


def sizes_of(model: Any, names: list[str], x: NDArray[np.float32]) -> list[tuple[int, ...]]:
    """The shapes that values within a graph have when it runs."""
    shown = type(model).FromString(model.SerializeToString())
    shown.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    return [each.shape for each in answers(shown, x)[len(model.graph.output) :]]


def test_a_berts_last_layer_computes_one_position(onnx_model: Get, probes: dict[str, Any], tmp_path: Path) -> None:
    """Query, scores, context and the three linear layers behind them take one row of each text; the answers are as before."""
    path = onnx_model("bert").path
    model = onnx.load(str(path))
    before = count_nodes(model)
    assert read_first_position(model) == 6
    assert count_nodes(model) == before | {"Slice": before["Slice"] + 2}
    onnx.save(model, str(tmp_path / "m.onnx"))
    sessions = [onnxruntime.InferenceSession(str(each)) for each in (path, tmp_path / "m.onnx")]
    for probe in probes["bert"]:
        whole, narrow = (session.run(None, probe)[0] for session in sessions)
        np.testing.assert_allclose(narrow, whole, rtol=1e-4, atol=1e-5)


def attention(index: str = "zero") -> list[Any]:
    """Two heads over all positions, a residual sum, a norm and a product, of which one position is read."""
    return [
        helper.make_node("MatMul", ["x", "w"], ["q"]),
        helper.make_node("Shape", ["x"], ["sizes"], start=0, end=2),
        helper.make_node("Concat", ["sizes", "heads"], ["split"], axis=0),
        helper.make_node("Reshape", ["q", "split"], ["q_heads"]),
        helper.make_node("Transpose", ["q_heads"], ["q_first"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["x", "split"], ["k_heads"]),
        helper.make_node("Transpose", ["k_heads"], ["k_first"], perm=[0, 2, 3, 1]),
        helper.make_node("Transpose", ["k_heads"], ["v_first"], perm=[0, 2, 1, 3]),
        helper.make_node("MatMul", ["q_first", "k_first"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "v_first"], ["context"]),
        helper.make_node("Transpose", ["context"], ["back"], perm=[0, 2, 1, 3]),
        helper.make_node("Concat", ["sizes", "joined"], ["join"], axis=0),
        helper.make_node("Reshape", ["back", "join"], ["together"]),
        helper.make_node("Add", ["together", "x"], ["sum"]),
        helper.make_node("LayerNormalization", ["sum", "scale", "bias"], ["normed"], axis=-1),
        helper.make_node("MatMul", ["normed", "w"], ["last"]),
        first_of("last", index=index),
    ]


def test_needs_stop_where_a_value_is_read_whole() -> None:
    """Queries are cut, keys and values are not; sizes that named all positions are taken from what is reshaped."""
    model = model_of(attention(), {"y": ["batch", WIDTH]})
    after, products = changed(model)
    assert products == 4
    names = ["q", "k_heads", "scores", "context", "together", "normed", "last"]
    assert sizes_of(model, names, x_of(3, 5)) == [
        (3, 5, 4), (3, 5, 2, 2), (3, 2, 5, 5), (3, 2, 5, 2), (3, 5, 4), (3, 5, 4), (3, 5, 4)
    ]  # fmt: skip
    assert sizes_of(after, names, x_of(3, 5)) == [
        (3, 1, 4), (3, 5, 2, 2), (3, 2, 1, 5), (3, 2, 1, 2), (3, 1, 4), (3, 1, 4), (3, 1, 4)
    ]  # fmt: skip
    need_equal(model, after)


def test_one_cut_serves_all_who_read_it() -> None:
    """The queries and the residual sum read the same cut of the layer's input."""
    after, _ = changed(model_of(attention(), {"y": ["batch", WIDTH]}))
    assert count_nodes(after)["Slice"] == 1


PRODUCT = helper.make_node("MatMul", ["x", "w"], ["p"])
REFUSED: dict[str, tuple[list[Any], dict[str, list[Any]]]] = {
    "another position": ([PRODUCT, first_of("p", index="one")], {"y": ["batch", WIDTH]}),
    "the mean": ([PRODUCT, helper.make_node("ReduceMean", ["p", "mean_axes"], ["y"])], {"y": ["batch", 1, WIDTH]}),
    "the answer itself": ([PRODUCT, first_of("p")], {"y": ["batch", WIDTH], "p": FREE}),
    "two positions": ([PRODUCT, first_of("p"), first_of("p", "z", "one")], {n: ["batch", WIDTH] for n in "yz"}),
    "two axes": (
        [PRODUCT, first_of("p"), first_of("p", "z", axis=0)],
        {"y": ["batch", WIDTH], "z": ["length", WIDTH]},
    ),
    "the first column": ([PRODUCT, first_of("p", axis=2)], {"y": ["batch", "length"]}),
    "a softmax over positions": (
        [PRODUCT, helper.make_node("Softmax", ["p"], ["s"], axis=1), first_of("s")],
        {"y": ["batch", WIDTH]},
    ),
    "a norm over positions too": (
        [
            PRODUCT,
            helper.make_node("Reshape", ["p", "fixed"], ["f"]),
            helper.make_node("LayerNormalization", ["f", "wide"], ["n"], axis=1),
            first_of("n"),
        ],
        {"y": [1, WIDTH]},
    ),
    "an operator that is not known": (
        [PRODUCT, helper.make_node("CumSum", ["p", "one"], ["c"]), first_of("c")],
        {"y": ["batch", WIDTH]},
    ),
    "positions folded into the batch": (
        [PRODUCT, helper.make_node("Reshape", ["p", "flat"], ["f"]), first_of("f", axis=0)],
        {"y": [WIDTH]},
    ),
    "the first position twice": ([PRODUCT, first_of("p", index="zeros")], {"y": ["batch", 2, WIDTH]}),
    "a part of all positions": (
        [PRODUCT, helper.make_node("Split", ["p"], ["c", "d"], axis=1, num_outputs=2), first_of("c")],
        {"y": ["batch", WIDTH]},
    ),
    "some positions": (
        [PRODUCT, helper.make_node("Slice", ["p", "mean_axes", "five", "mean_axes"], ["c"]), first_of("c")],
        {"y": ["batch", WIDTH]},
    ),
    "two positions at once": (
        [PRODUCT, helper.make_node("Slice", ["p", "from", "two", "mean_axes"], ["y"])],
        {"y": ["batch", "some", WIDTH]},
    ),
    "positions behind each other": (
        [PRODUCT, helper.make_node("Concat", ["p", "p"], ["c"], axis=1), first_of("c")],
        {"y": ["batch", WIDTH]},
    ),
    "the largest of all positions": (
        [PRODUCT, helper.make_node("ReduceMax", ["p", "mean_axes"], ["c"]), first_of("c")],
        {"y": ["batch", WIDTH]},
    ),
    "a mean that drops its axis": (
        [PRODUCT, helper.make_node("ReduceMean", ["p", "last"], ["c"], keepdims=0), first_of("c")],
        {"y": ["batch"]},
    ),
    "a norm's own numbers": (
        [
            PRODUCT,
            helper.make_node("LayerNormalization", ["p", "scale"], ["n", "m"]),
            first_of("n"),
            first_of("m", "z"),
        ],
        {"y": ["batch", WIDTH], "z": ["batch", 1]},
    ),
    "another's operator of that name": (
        [PRODUCT, helper.make_node("Gelu", ["p"], ["g"], domain="com.microsoft"), first_of("g")],
        {"y": ["batch", WIDTH]},
    ),
    "batches that change places with positions": (
        [PRODUCT, helper.make_node("Reshape", ["p", "swapped"], ["f"]), first_of("f")],
        {"y": [5, WIDTH]},
    ),
    "rows that are split": (
        [PRODUCT, helper.make_node("Reshape", ["p", "turned"], ["f"]), first_of("f", axis=2)],
        {"y": [1, 5, 2]},
    ),
    "no product": ([helper.make_node("Relu", ["x"], ["r"]), first_of("r")], {"y": ["batch", WIDTH]}),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_needs_all_positions_is_left(case: str) -> None:
    """A product of which more is read than position 0 stays whole, and a graph without another is refused as it was."""
    nodes, outputs = REFUSED[case]
    shapes: dict[str, NDArray[Any]] = {
        "flat": np.array([-1, WIDTH]),
        "fixed": np.array([1, 5, WIDTH]),
        "swapped": np.array([5, 1, WIDTH]),
        "turned": np.array([1, 5, WIDTH // 2, 2]),
        "wide": np.ones((5, WIDTH), np.float32),
        "zeros": np.array([0, 0]),
        "from": np.array([0]),
        "two": np.array([2]),
        "five": np.array([5]),
        "last": np.array([2]),
    }
    model = model_of(nodes, outputs, **shapes)
    before = model.SerializeToString()
    answers(model, x_of(1, 5))
    with pytest.raises(BuildError, match="no matrix product computes positions that nothing reads"):
        read_first_position(model)
    assert model.SerializeToString() == before


def test_a_graph_with_one_position_has_nothing_to_leave_out() -> None:
    """Where the file notes that there is but one position, nothing is cut."""
    model = model_of([PRODUCT, first_of("p")], {"y": ["batch", WIDTH]}, dims=["batch", 1, WIDTH])
    with pytest.raises(BuildError, match="nothing reads"):
        read_first_position(model)


def test_an_older_opset_is_refused() -> None:
    """Up to opset 12 Softmax, left to itself, mixes all positions."""
    softmax = helper.make_node("Softmax", ["p"], ["s"])
    model = model_of([PRODUCT, softmax, first_of("s")], {"y": ["batch", WIDTH]}, opset=12)
    with pytest.raises(BuildError, match="the graph is of opset 12; first-position knows 13 and newer ones"):
        read_first_position(model)


def test_graphs_within_are_refused() -> None:
    """A branch may read any value by its name, so that a graph with one is left."""
    branch = helper.make_graph(
        [helper.make_node("Identity", ["p"], ["b"])],
        "branch",
        [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)],
    )
    choice = helper.make_node("If", ["always"], ["all"], then_branch=branch, else_branch=branch)
    model = model_of([PRODUCT, first_of("p"), choice], {"y": ["batch", WIDTH], "all": FREE}, always=np.array(True))
    with pytest.raises(BuildError, match="graphs or functions within, in which it is not told who reads what"):
        read_first_position(model)


def test_all_parts_of_a_split_must_be_read_alike() -> None:
    """A product is narrowed where the gate and what it gates are read at one position; not where one part is read whole."""
    split = helper.make_node("Split", ["p"], ["a", "b"], axis=2, num_outputs=2)
    gated = [PRODUCT, split, helper.make_node("Mul", ["a", "b"], ["g"]), first_of("g")]
    model = model_of(gated, {"y": ["batch", WIDTH // 2]})
    after, products = changed(model)
    assert (products, sizes_of(after, ["p", "b"], x_of(3, 5))) == (1, [(3, 1, 4), (3, 1, 2)])
    need_equal(model, after)
    with pytest.raises(BuildError, match="nothing reads"):
        read_first_position(model_of(gated, {"y": ["batch", WIDTH // 2], "b": ["batch", "length", WIDTH // 2]}))


def test_batches_are_read_like_positions() -> None:
    """Position 0 of the first axis is cut from both factors of a product, but from one that is stretched over it."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "t"], ["p"]),
        helper.make_node("MatMul", ["p", "x"], ["q"]),
        helper.make_node("MatMul", ["q", "w3"], ["r"]),
        first_of("r", axis=0),
    ]
    model = model_of(nodes, {"y": ["length", WIDTH]}, w3=CONSTANTS["w"][None])
    after, products = changed(model)
    assert products == 3
    assert sizes_of(after, ["t", "p", "r"], x_of(3, 5)) == [(1, 4, 5), (1, 5, 5), (1, 5, 4)]
    need_equal(model, after)


PICKS = {
    "an index of one number": [helper.make_node("Gather", ["p", "from"], ["y"], axis=1)],
    "an axis from behind": [helper.make_node("Gather", ["p", "from"], ["y"], axis=-2)],
    "a slice": [helper.make_node("Slice", ["p", "from", "to", "axes"], ["y"])],
    "a slice of every number": [helper.make_node("Slice", ["p", "from", "to", "axes", "to"], ["y"])],
    "a constant's node": [
        helper.make_node("Constant", [], ["place"], value=numpy_helper.from_array(np.array([0]))),
        helper.make_node("Gather", ["p", "place"], ["y"], axis=1),
    ],
}


@pytest.mark.parametrize("pick", list(PICKS))
def test_every_way_to_pick_position_0_is_known(pick: str) -> None:
    """By an index, a slice, an axis counted from either end, an initializer or a constant's node."""
    constants = {"from": np.array([0]), "to": np.array([1]), "axes": np.array([-2])}
    model = model_of([PRODUCT, *PICKS[pick]], {"y": ["batch", 1, WIDTH]}, **constants)
    after, products = changed(model)
    assert (products, sizes_of(after, ["p"], x_of(3, 5))) == (1, [(3, 1, 4)])
    need_equal(model, after)


ALONE = {
    "a norm written out": [
        helper.make_node("ReduceMean", ["p", "last"], ["m"]),
        helper.make_node("Sub", ["p", "m"], ["r"]),
    ],
    "a softmax along the features": [helper.make_node("Softmax", ["p"], ["r"])],
    "a norm along the features": [helper.make_node("LayerNormalization", ["p", "scale"], ["r"])],
    "a part of the features": [helper.make_node("Slice", ["p", "one1", "three", "last"], ["r"])],
    "features behind each other": [helper.make_node("Concat", ["p", "p"], ["r"], axis=-1)],
    "a guard against no number": [
        helper.make_node("IsNaN", ["p"], ["nan"]),
        helper.make_node("Where", ["nan", "row", "p"], ["r"]),
    ],
}


@pytest.mark.parametrize("case", list(ALONE))
def test_operators_that_treat_positions_alike_are_passed(case: str) -> None:
    """The product above them computes one position."""
    constants = {"last": np.array([-1]), "one1": np.array([1]), "three": np.array([3])}
    model = model_of([PRODUCT, *ALONE[case], first_of("r")], {"y": ["batch", "width"]}, **constants)
    after, products = changed(model)
    assert (products, sizes_of(after, ["p"], x_of(3, 5))) == (1, [(3, 1, 4)])
    need_equal(model, after)


def test_a_mean_may_name_its_axes_in_an_attribute() -> None:
    """So it did up to opset 17."""
    nodes = [PRODUCT, helper.make_node("ReduceMean", ["p"], ["m"], axes=[-1]), first_of("m")]
    model = model_of(nodes, {"y": ["batch", 1]}, opset=17)
    after, products = changed(model)
    assert products == 1
    need_equal(model, after)


def test_a_norm_with_a_scale_for_each_position_is_given_the_first() -> None:
    """The scale is cut like what it scales."""
    scale = np.random.default_rng(3).standard_normal((5, WIDTH)).astype(np.float32)
    nodes = [PRODUCT, helper.make_node("LayerNormalization", ["p", "wide"], ["n"]), first_of("n")]
    model = model_of(nodes, {"y": ["batch", WIDTH]}, wide=scale)
    after, _ = changed(model)
    np.testing.assert_allclose(answers(after, x_of(3, 5))[0], answers(model, x_of(3, 5))[0], rtol=1e-5, atol=1e-6)


def test_names_that_are_taken_are_left() -> None:
    """Values and initializers may have any name, those that the pass would give among them."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["p"]),
        helper.make_node("Add", ["p", "first_position.0"], ["r.first"]),
        first_of("r.first"),
        helper.make_node("Neg", ["r"], ["z"]),
    ]
    taken = {"first_position.0": np.array([2], np.float32)}
    model = model_of(nodes, {"y": ["batch", WIDTH], "z": FREE}, **taken)
    after, products = changed(model)
    assert products == 1
    need_equal(model, after)


def test_notes_of_dimensions_that_no_longer_hold_go() -> None:
    """What was noted of a value that has one position now is dropped; other notes stay."""
    model = model_of([helper.make_node("Relu", ["x"], ["r"]), *attention()], {"y": ["batch", WIDTH]})
    for name in ("r", "q", "k_heads", "last"):
        model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    after, _ = changed(model)
    assert {value.name for value in after.graph.value_info} == {"k_heads"}
    assert "Relu" not in count_nodes(after), "nothing reads it"


STEPS: dict[str, Callable[[str, str, str], list[Any]]] = {
    "product": lambda a, _, y: [helper.make_node("MatMul", [a, "w"], [y])],
    "bias": lambda a, _, y: [helper.make_node("Add", ["bias", a], [y])],
    "row": lambda a, _, y: [helper.make_node("Mul", [a, "row"], [y])],
    "scale": lambda a, _, y: [helper.make_node("Mul", [a, "tenth"], [y])],
    "sum": lambda a, b, y: [helper.make_node("Add", [a, b], [y])],
    "erf": lambda a, _, y: [helper.make_node("Erf", [a], [y])],
    "clip": lambda a, _, y: [helper.make_node("Clip", [a, "", "tenth"], [y])],
    "norm": lambda a, _, y: [helper.make_node("LayerNormalization", [a, "scale"], [y])],
    "softmax": lambda a, _, y: [helper.make_node("Softmax", [a], [y], axis=2)],
    "over positions": lambda a, _, y: [helper.make_node("Softmax", [a], [y], axis=1)],
    "gate": lambda a, _, y: [
        helper.make_node("Split", [a], [f"{y}a", f"{y}b"], axis=-1, num_outputs=2),
        helper.make_node("Mul", [f"{y}a", f"{y}b"], [f"{y}c"]),
        helper.make_node("MatMul", [f"{y}c", "wide"], [y]),
    ],
    "cut": lambda a, b, y: [
        helper.make_node("Split", [a], [f"{y}a", f"{y}b"], axis=-1, num_outputs=2),
        helper.make_node("Transpose", [f"{y}b"], [f"{y}t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", [f"{y}a", f"{y}t"], [f"{y}s"]),
        helper.make_node("MatMul", [f"{y}s", b], [y]),
    ],
    "mix": lambda a, b, y: [
        helper.make_node("Transpose", [b], [f"{y}t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", [a, f"{y}t"], [f"{y}s"]),
        helper.make_node("MatMul", [f"{y}s", b], [y]),
    ],
}
"""Operators of (batch, length, 4): of one value, or of two, to a third."""
PLACES = st.integers(min_value=0, max_value=8)


@given(st.lists(st.tuples(st.sampled_from(sorted(STEPS)), PLACES, PLACES), min_size=1, max_size=9))
@settings(max_examples=150, deadline=None)
def test_any_stack_answers_as_before(stack: list[tuple[str, int, int]]) -> None:
    """Whatever reads whatever: a graph is refused, or changed without changing its answers."""
    values, nodes = ["x"], []
    for number, (step, one, other) in enumerate(stack):
        nodes += STEPS[step](values[-1 - one % len(values)], values[-1 - other % len(values)], f"v{number}")
        values.append(f"v{number}")
    model = model_of([*nodes, first_of(values[-1])], {"y": ["batch", WIDTH]})
    try:
        after, products = changed(model)
    except BuildError:
        assert not any(step in ("product", "gate") for step, *_ in stack[-1:]), (
            "the last product is read at one position"
        )
        return
    assert products >= 1
    need_equal(model, after)
