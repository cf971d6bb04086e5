"""Exports answer as the module does, at every shape."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from weighbridge.optimize.errors import BuildError
from weighbridge.optimize.loading import load
from weighbridge.optimize.model import Batch, OnnxModel, Signature, TensorSpec, TorchModel
from weighbridge.optimize.onnx_export import OPSET, export
from weighbridge.optimize.onnx_files import count_nodes
from weighbridge.optimize.source import Source

Get = Callable[[str], Any]
TOLERANCE = 1e-4


def ran(path: Path, feeds: Batch) -> list[NDArray[Any]]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs: list[NDArray[Any]] = session.run(None, dict(feeds))
    return outputs


def answered(model: TorchModel, batch: Batch) -> NDArray[Any]:
    """What the module itself gives, called by name."""
    import torch

    with torch.inference_mode():
        outputs = model.module(**{name: torch.from_numpy(array) for name, array in batch.items()})
    logits: NDArray[Any] = getattr(outputs, "logits", outputs).numpy()
    return logits


@pytest.mark.parametrize(("rows", "length"), [(1, 1), (1, 32), (4, 16), (3, 64)])
def test_a_bert_export_answers_as_the_module(torch_model: Get, onnx_model: Get, rows: int, length: int) -> None:
    """One file serves every batch size and length, a length of one and padded rows included."""
    random = np.random.default_rng(5)
    ids, types = random.integers(0, 100, (rows, length)), random.integers(0, 2, (rows, length))
    mask = np.ones_like(ids)
    mask[0, length // 2 + 1 :] = 0
    batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    expected = answered(torch_model("bert"), batch)
    assert np.abs(ran(onnx_model("bert").path, batch)[0] - expected).max() < TOLERANCE


def test_the_exported_mask_is_honoured(onnx_model: Get) -> None:
    """What stands under the padding of a row changes nothing, and what the mask covers changes the answer."""
    random = np.random.default_rng(6)
    ids = random.integers(0, 100, (2, 16))
    mask = np.ones_like(ids)
    mask[:, 9:] = 0
    other = ids.copy()
    other[:, 9:] = random.integers(0, 100, (2, 7))
    types = np.zeros_like(ids)
    path = onnx_model("bert").path

    def logits(tokens: NDArray[Any], attention: NDArray[Any]) -> NDArray[Any]:
        return ran(path, {"input_ids": tokens, "attention_mask": attention, "token_type_ids": types})[0]

    assert np.abs(logits(ids, mask) - logits(other, mask)).max() < TOLERANCE
    assert np.abs(logits(ids, mask) - logits(ids, np.ones_like(mask))).max() > TOLERANCE


@pytest.mark.parametrize("name", ["cnn", "lstm", "mlp"])
def test_a_module_export_answers_as_the_module(torch_model: Get, onnx_model: Get, probes: Any, name: str) -> None:
    """Image, recurrent and table classifiers answer alike at every probe's batch size and length."""
    for probe in probes[name]:
        expected = answered(torch_model(name), probe)
        assert np.abs(ran(onnx_model(name).path, probe)[0] - expected).max() < TOLERANCE


def test_signatures_free_the_batch_and_the_sequence_only(onnx_model: Get) -> None:
    """Batch and sequence are free by name; pixels and features stay fixed."""
    sequence = ("batch", "sequence")
    names = ("input_ids", "attention_mask", "token_type_ids")
    assert onnx_model("bert").signature.inputs == tuple(TensorSpec(name, "int64", sequence) for name in names)
    assert onnx_model("cnn").signature.inputs == (TensorSpec("input", "float32", ("batch", 1, 8, 8)),)
    assert onnx_model("lstm").signature.inputs == (TensorSpec("input_ids", "int64", sequence),)
    assert onnx_model("mlp").signature.inputs == (TensorSpec("features", "float32", ("batch", 6)),)
    assert onnx_model("bert").signature.outputs == ("logits",)


def test_recurrent_layers_stay_recurrent_nodes(onnx_model: Get) -> None:
    """Two LSTM layers are two LSTM nodes whose weights lie ready in the file, not a loop of matrix products."""
    graph = onnx.load(onnx_model("lstm").path).graph
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    recurrent = [node for node in graph.node if node.op_type == "LSTM"]
    assert [weights[node.input[1]] for node in recurrent] == [(1, 128, 16), (1, 128, 32)]
    assert [weights[node.input[2]] for node in recurrent] == [(1, 128, 32), (1, 128, 32)]


def test_a_recurrent_model_can_be_exported_twice(
    torch_model: Get, onnx_model: Get, probes: Any, tmp_path: Path
) -> None:
    """A second export in one process has a free sequence too: nothing of the first is left behind."""
    first = onnx_model("lstm")
    second = export(torch_model("lstm"), probes["lstm"], tmp_path / "again.onnx")
    assert second.signature == first.signature
    assert count_nodes(onnx.load(second.path)) == count_nodes(onnx.load(first.path))


def test_the_file_is_whole_valid_and_of_opset_20(onnx_model: Get) -> None:
    """An export is one valid file with its weights inside, without shape notes on weights or traces of the machine."""
    for name in ("bert", "gpt2", "lstm"):
        path = onnx_model(name).path
        onnx.checker.check_model(str(path), full_check=True)
        model = onnx.load(path, load_external_data=False)
        assert {entry.domain: entry.version for entry in model.opset_import}[""] == OPSET
        assert not [tensor for tensor in model.graph.initializer if tensor.external_data]
        weights = {tensor.name for tensor in model.graph.initializer}
        assert not [value.name for value in model.graph.value_info if value.name in weights]
        assert not [node for node in model.graph.node if node.metadata_props or node.doc_string]
        assert b".py" not in path.read_bytes()
        assert [left.name for left in path.parent.iterdir() if left.suffix in (".part", ".data")] == []


def test_exporting_prints_nothing(
    torch_model: Get, probes: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither progress lines nor warnings of the exporter reach the user's terminal."""
    export(torch_model("mlp"), probes["mlp"], tmp_path / "mlp.onnx")
    assert capfd.readouterr() == ("", "")


def empty_cache(model: OnnxModel, rows: int) -> dict[str, NDArray[Any]]:
    cache = model.signature.cache
    assert cache is not None
    shape = (rows, cache.heads, 0, cache.head_size)
    pairs = [f"past_key_values.{layer}.{part}" for layer in range(cache.layers) for part in ("key", "value")]
    return {name: np.zeros(shape, np.float32) for name in pairs}


def positions_of(mask: NDArray[Any], new: int) -> NDArray[Any]:
    return np.maximum(mask.cumsum(1) - 1, 0)[:, -new:]


@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_one_decoder_graph_serves_prefill_and_decode(torch_model: Get, onnx_model: Get, name: str, rows: int) -> None:
    """With an empty cache and then with a growing one, logits are those of a module that reads everything at once."""
    model = onnx_model(name)
    random = np.random.default_rng(rows)
    ids = random.integers(0, 100, (rows, 9))
    whole = answered(torch_model(name), {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    cache = empty_cache(model, rows)
    start = 0
    for stop in (6, 7, 9):
        mask = np.ones((rows, stop), np.int64)
        feeds = {
            "input_ids": ids[:, start:stop],
            "attention_mask": mask,
            "position_ids": positions_of(mask, stop - start),
        }
        logits, *present = ran(model.path, {**feeds, **cache})
        assert np.abs(logits - whole[:, start:stop]).max() < TOLERANCE
        cache = dict(zip(cache, present, strict=True))
        start = stop


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_left_padding_changes_no_logit(onnx_model: Get, name: str) -> None:
    """A short prompt padded on the left beside a longer one is answered as it is alone."""
    model = onnx_model(name)
    random = np.random.default_rng(8)
    ids = random.integers(0, 100, (2, 8))
    mask = np.ones_like(ids)
    mask[0, :3] = 0
    feeds = {"input_ids": ids, "attention_mask": mask, "position_ids": positions_of(mask, 8)}
    together = ran(model.path, {**feeds, **empty_cache(model, 2)})[0]
    single = np.ones((1, 5), np.int64)
    feeds = {"input_ids": ids[:1, 3:], "attention_mask": single, "position_ids": positions_of(single, 5)}
    alone = ran(model.path, {**feeds, **empty_cache(model, 1)})[0]
    assert np.abs(together[0, 3:] - alone[0]).max() < TOLERANCE


def test_a_decoder_graph_names_its_cache(onnx_model: Get) -> None:
    """The cache goes in as past_key_values.N.key/value and out as present.N.key/value, past positions free."""
    graph = onnx.load(onnx_model("gpt2").path).graph
    pairs = [f"{layer}.{part}" for layer in (0, 1) for part in ("key", "value")]
    inputs = [value.name for value in graph.input]
    assert inputs == ["input_ids", "attention_mask", "position_ids", *(f"past_key_values.{pair}" for pair in pairs)]
    assert [value.name for value in graph.output] == ["logits", *(f"present.{pair}" for pair in pairs)]
    dims = [dim.dim_param or dim.dim_value for dim in graph.input[3].type.tensor_type.shape.dim]
    assert dims == ["batch", 2, "past", 16]


def made(tmp_path: Path, name: str, code: str, **details: Any) -> TorchModel:
    """A module from code written for one test."""
    (tmp_path / f"{name}.py").write_text(f"import torch\nfrom torch import nn\n{code}", encoding="utf-8")
    task = details.pop("task", "text-classification")
    model = load(Source("module", f"{name}:factory", task, "", str(tmp_path), **details))
    assert isinstance(model, TorchModel)
    return model


def test_a_model_built_for_one_length_keeps_it(tmp_path: Path) -> None:
    """Where a linear layer spans all positions, the length of the data is fixed and the batch stays free."""
    code = "def factory(): return nn.Sequential(nn.Embedding(50, 4), nn.Flatten(), nn.Linear(12 * 4, 3))\n"
    model = made(tmp_path, "fixed_length_models", code)
    ids = np.random.default_rng(0).integers(0, 50, (5, 12))
    exported = export(model, ({"input": ids[:1]},), tmp_path / "m.onnx")
    assert exported.signature.inputs == (TensorSpec("input", "int64", ("batch", 12)),)
    assert np.abs(ran(exported.path, {"input": ids})[0] - answered(model, {"input": ids})).max() < TOLERANCE


def test_whole_numbers_of_a_table_are_no_tokens(tmp_path: Path) -> None:
    """Integer columns of a table keep their number: only text has a free sequence."""
    code = (
        "class Columns(nn.Module):\n"
        "    def __init__(self):\n        super().__init__(); self.head = nn.Linear(6, 2)\n"
        "    def forward(self, columns): return self.head(columns.float())\n"
        "def factory(): return Columns()\n"
    )
    model = made(tmp_path, "integer_table_models", code, task="tabular-classification")
    exported = export(model, ({"columns": np.arange(12).reshape(2, 6)},), tmp_path / "m.onnx")
    assert exported.signature.inputs == (TensorSpec("columns", "int64", ("batch", 6)),)


@pytest.mark.parametrize("parameters", ["*pair", "left, right"])
def test_inputs_without_their_names_are_given_in_order(tmp_path: Path, parameters: str) -> None:
    """A forward of *args, or one whose names the user replaced, is exported with the user's names in their order."""
    code = (
        "class Pair(nn.Module):\n"
        f"    def forward(self, {parameters}):\n"
        f"        left, right = {'pair' if parameters == '*pair' else 'left, right'}\n"
        "        return left - 2 * right\n"
        "def factory(): return Pair()\n"
    )
    name = f"ordered_models_{len(parameters)}"
    model = made(tmp_path, name, code, task="tabular-classification", input_names=("first", "second"))
    one, two = np.float32([[1, 2, 3]]), np.float32([[10, 20, 30]])
    exported = export(model, ({"first": one, "second": two},), tmp_path / "m.onnx")
    assert [spec.name for spec in exported.signature.inputs] == ["first", "second"]
    assert ran(exported.path, {"first": one, "second": two})[0].tolist() == [[-19, -38, -57]]


def test_what_cannot_be_traced_is_a_build_error(tmp_path: Path) -> None:
    """A module whose control flow depends on its values is refused with the exporter's reason, and leaves no file."""
    code = (
        "class Branch(nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x if x.sum() > 0 else -x\n"
        "def factory(): return Branch()\n"
    )
    model = made(tmp_path, "branching_models", code, task="tabular-classification")
    with pytest.raises(BuildError, match=r"the export to ONNX failed: \w+: "):
        export(model, ({"x": np.ones((2, 3), np.float32)},), tmp_path / "out" / "m.onnx")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_export_needs_a_probe_and_a_described_cache(torch_model: Get, tmp_path: Path) -> None:
    """Without an input to trace, or without a cache to lay flat, the reason is said."""
    with pytest.raises(BuildError, match="give at least one probe"):
        export(torch_model("mlp"), (), tmp_path / "m.onnx")
    bare = replace(torch_model("gpt2"), signature=Signature("decoder", (), ("logits",)))
    with pytest.raises(BuildError, match="a decoder whose cache is not described cannot be exported"):
        export(bare, (), tmp_path / "m.onnx")


def test_a_half_precision_module_is_exported_as_it_is(torch_model: Get, probes: Any, tmp_path: Path) -> None:
    """The weights of an FP16 module are FP16 in the file."""
    import copy

    import torch

    model = torch_model("mlp")
    half = replace(model, module=copy.deepcopy(model.module).to(torch.float16))
    sample = ({name: array.astype(np.float16) for name, array in probes["mlp"][0].items()},)
    exported = export(half, sample, tmp_path / "half.onnx")
    types = {tensor.data_type for tensor in onnx.load(exported.path).graph.initializer}
    assert types == {onnx.TensorProto.FLOAT16}
    assert exported.signature.inputs[0].dtype == "float16"
