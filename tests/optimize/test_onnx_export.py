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
from weighbridge.optimize.model import Batch, Signature, TensorSpec, TorchModel
from weighbridge.optimize.onnx_decoder import FUSED_OPSET
from weighbridge.optimize.onnx_export import OPSET, export
from weighbridge.optimize.onnx_files import count_nodes
from weighbridge.optimize.onnx_layers import quantizable_layers
from weighbridge.optimize.parity import reference_of
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


def test_the_file_is_whole_and_valid(onnx_model: Get) -> None:
    """An export is one valid file with its weights inside, without shape notes on weights or traces of the machine."""
    for name, opset in (("bert", OPSET), ("gpt2", FUSED_OPSET), ("lstm", OPSET)):
        path = onnx_model(name).path
        onnx.checker.check_model(str(path), full_check=True)
        model = onnx.load(path, load_external_data=False)
        assert {entry.domain: entry.version for entry in model.opset_import}[""] == opset
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


@pytest.mark.parametrize("name", ["bert", "cnn", "mlp", "gpt2", "llama"])
def test_the_legacy_exporter_answers_alike(torch_model: Get, probes: Any, tmp_path: Path, name: str) -> None:
    """Its graph gives the module's answers on every probe, decoders' cache included, under the same names of layers."""
    model = torch_model(name)
    exported = export(model, probes[name], tmp_path / "m.onnx", "legacy")
    parity = reference_of(model, probes[name]).verify_model(exported, exact=True)
    assert parity.max_relative < TOLERANCE
    names = {layer.name for layer in quantizable_layers(exported.path)}
    assert names <= {module for module, _ in model.module.named_modules()}
    last = {"bert": "classifier", "cnn": "5", "mlp": "head", "gpt2": "lm_head", "llama": "lm_head"}
    assert last[name] in names


def test_the_legacy_exporter_names_inputs_as_forward_takes_them(torch_model: Get, probes: Any, tmp_path: Path) -> None:
    """Inputs given in another order than forward's keep each its own name."""
    turned = tuple(dict(reversed(probe.items())) for probe in probes["bert"])
    exported = export(torch_model("bert"), turned, tmp_path / "m.onnx", "legacy")
    for probe in probes["bert"]:
        expected = answered(torch_model("bert"), probe)
        assert np.abs(ran(exported.path, probe)[0] - expected).max() < TOLERANCE


def test_the_legacy_exporter_leaves_the_module_as_it_was(torch_model: Get, probes: Any, tmp_path: Path) -> None:
    """Attention is written out for the export alone."""
    config = torch_model("bert").module.config
    before = config._attn_implementation
    export(torch_model("bert"), probes["bert"], tmp_path / "m.onnx", "legacy")
    assert config._attn_implementation == before != "eager"


def test_attention_is_written_out_without_guards(onnx_model: Get) -> None:
    """A classifier's attention is two products and a Softmax a layer; the guard of torch's fused one is not in the graph."""
    nodes = count_nodes(onnx.load(onnx_model("bert").path))
    assert nodes["Softmax"] == 2
    assert "IsNaN" not in nodes
