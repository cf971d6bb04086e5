"""Tiny models of every kind that a build starts from, made once a session; no test may change them."""

import importlib.util
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from weighbridge.optimize.loading import describe, load
from weighbridge.optimize.model import Batch, OnnxModel, Signature, TensorSpec, TorchModel
from weighbridge.optimize.onnx_export import export
from weighbridge.optimize.quiet import quiet
from weighbridge.optimize.source import Source

VOCABULARY = 100
FACTORIES = '''
    """Factories of tiny modules: an image, a text and a table classifier."""

    import torch
    from torch import nn


    def cnn():
        """Two convolutions over 8 x 8 pixels, 5 classes."""
        torch.manual_seed(1)
        convolutions = (nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2), nn.ReLU())
        return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(72, 5))


    class Lstm(nn.Module):
        """An embedding, two recurrent layers, 3 classes from the last position."""

        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(100, 16)
            self.recurrent = nn.LSTM(16, 32, num_layers=2, batch_first=True)
            self.head = nn.Linear(32, 3)

        def forward(self, input_ids):
            states, _ = self.recurrent(self.embedding(input_ids))
            return self.head(states[:, -1])


    def lstm():
        torch.manual_seed(2)
        return Lstm()


    class Mlp(nn.Module):
        """Two linear layers over 6 features, 4 classes."""

        def __init__(self):
            super().__init__()
            self.hidden = nn.Linear(6, 16)
            self.head = nn.Linear(16, 4)

        def forward(self, features):
            return self.head(self.hidden(features).relu())


    def mlp():
        torch.manual_seed(3)
        return Mlp()
'''


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for everything below."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def factories(models: Path) -> Path:
    """A search path with the package `tiny_factories`: `tiny_factories.models:cnn`, `:lstm` and `:mlp`."""
    package = models / "factories" / "tiny_factories"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('"""Tiny models."""\n', encoding="utf-8")
    (package / "models.py").write_text(textwrap.dedent(FACTORIES), encoding="utf-8")
    return package.parent


def saved(module: Any, folder: Path) -> Path:
    """Save a transformers model as if it were trained: no two tensors are equal, which an exporter would merge."""
    import torch

    with quiet(), torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        module.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_bert(models: Path) -> Path:
    """A BERT classifier of 3 classes, saved with save_pretrained."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=VOCABULARY, num_labels=3, initializer_range=0.5, max_position_embeddings=64, **sizes)
    return saved(BertForSequenceClassification(config), models / "bert")


@pytest.fixture(scope="session")
def tiny_gpt2(models: Path) -> Path:
    """A GPT-2 language model, its output layer tied to its embedding, which is too large to be folded unasked."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
    tokens = {"vocab_size": 4 * VOCABULARY, "bos_token_id": 0, "eos_token_id": 0}
    return saved(GPT2LMHeadModel(GPT2Config(initializer_range=0.3, **sizes, **tokens)), models / "gpt2")


@pytest.fixture(scope="session")
def tiny_llama(models: Path) -> Path:
    """A Llama language model: rotary positions, and fewer key/value heads than heads."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 64}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    tokens = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0}
    return saved(LlamaForCausalLM(LlamaConfig(initializer_range=0.3, **sizes, **heads, **tokens)), models / "llama")


def bert_batch(rows: int, length: int) -> Batch:
    """Token ids with the first row padded after its first half."""
    random = np.random.default_rng(rows * 1000 + length)
    ids = random.integers(1, VOCABULARY, (rows, length))
    mask = np.ones_like(ids)
    mask[0, length // 2 + 1 :] = 0
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def token_batch(rows: int, length: int) -> Batch:
    """Token ids alone."""
    return {"input_ids": np.random.default_rng(rows * 1000 + length).integers(0, VOCABULARY, (rows, length))}


def prompt_batch(rows: int, length: int) -> Batch:
    """Token ids and a mask of ones."""
    ids = token_batch(rows, length)["input_ids"]
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def image_batch(rows: int) -> Batch:
    """Images of one channel and 8 x 8 pixels."""
    return {"input": np.random.default_rng(rows).standard_normal((rows, 1, 8, 8)).astype(np.float32)}


def table_batch(rows: int) -> Batch:
    """Rows of 6 features."""
    return {"features": np.random.default_rng(rows).standard_normal((rows, 6)).astype(np.float32)}


PROBES: dict[str, tuple[Batch, ...]] = {
    "bert": (bert_batch(1, 16), bert_batch(4, 16), bert_batch(3, 9)),
    "gpt2": (prompt_batch(1, 8), prompt_batch(4, 8), prompt_batch(2, 5)),
    "llama": (prompt_batch(1, 8), prompt_batch(4, 8), prompt_batch(2, 5)),
    "cnn": (image_batch(1), image_batch(4)),
    "lstm": (token_batch(1, 12), token_batch(4, 12), token_batch(3, 5)),
    "mlp": (table_batch(1), table_batch(4)),
}


@pytest.fixture(scope="session")
def probes() -> dict[str, tuple[Batch, ...]]:
    """Inputs of each tiny model, by its name, at several shapes."""
    return PROBES


@pytest.fixture(scope="session")
def many_rows() -> dict[str, Batch]:
    """Inputs enough that no single row, and so no processor's rounding, decides an error."""
    return {"bert": bert_batch(512, 16), "mlp": table_batch(512)}


@pytest.fixture(scope="session")
def sources(tiny_bert: Path, tiny_gpt2: Path, tiny_llama: Path, factories: Path) -> dict[str, Source]:
    """The source of each tiny model: bert, gpt2, llama, cnn, lstm, mlp."""
    path = str(factories)
    return {
        "bert": describe("transformers", str(tiny_bert), "text-classification"),
        "gpt2": describe("transformers", str(tiny_gpt2), "text-generation"),
        "llama": describe("transformers", str(tiny_llama), "text-generation"),
        "cnn": describe("module", "tiny_factories.models:cnn", "image-classification", search_path=path),
        "lstm": describe("module", "tiny_factories.models:lstm", "text-classification", search_path=path),
        "mlp": describe("module", "tiny_factories.models:mlp", "tabular-classification", search_path=path),
    }


@pytest.fixture(scope="session")
def torch_model(sources: dict[str, Source]) -> Callable[[str], TorchModel]:
    """A function from a tiny model's name to the loaded model; loaded once."""
    loaded: dict[str, TorchModel] = {}

    def get(name: str) -> TorchModel:
        if name not in loaded:
            model = load(sources[name])
            assert isinstance(model, TorchModel)
            loaded[name] = model
        return loaded[name]

    return get


@pytest.fixture(scope="session")
def onnx_model(torch_model: Callable[[str], TorchModel], models: Path) -> Callable[[str], OnnxModel]:
    """A function from a tiny model's name to its ONNX export; exported once."""
    exported: dict[str, OnnxModel] = {}

    def get(name: str) -> OnnxModel:
        if name not in exported:
            exported[name] = export(torch_model(name), PROBES[name], models / f"{name}.onnx")
        return exported[name]

    return get


def paper(name: str) -> Any:
    """A module of the folder surface, by which a machine with an NVIDIA GPU is stood in for; loaded once."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "surface" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def table_graph(models: Path) -> OnnxModel:
    """A table classifier of 6 features and 4 classes as an ONNX graph of opset 20, made by hand: two products with biases."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(4)
    sizes = {"hidden_weight": (6, 16), "hidden_bias": (16,), "head_weight": (16, 4), "head_bias": (4,)}
    weights = [
        numpy_helper.from_array(random.standard_normal(size).astype(np.float32), name) for name, size in sizes.items()
    ]
    nodes = [
        helper.make_node("Gemm", ["features", "hidden_weight", "hidden_bias"], ["hidden"], "hidden"),
        helper.make_node("Relu", ["hidden"], ["active"], "relu"),
        helper.make_node("Gemm", ["active", "head_weight", "head_bias"], ["logits"], "head"),
    ]
    taken, given = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in (("features", 6), ("logits", 4))
    )
    graph = helper.make_graph(nodes, "table", [taken], [given], weights)
    path = models / "table.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
    return OnnxModel(path, Signature("classifier", (TensorSpec("features", "float32", ("batch", 6)),), ("logits",)))


@dataclass
class PaperMachine:
    """A GPU machine of paper: its CUDA, its TensorRT (`library.module` is the package) and its NVML."""

    cuda: Any
    library: Any
    nvml: Any


@pytest.fixture(params=["11.4.0.106"])
def gpu_machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PaperMachine:
    """The paper machine in the place of NVIDIA's packages, with TensorRT usable and a cache of its own."""
    from weighbridge.optimize import tensorrt_availability

    fake_cuda = paper("fake_cuda")
    runtime = fake_cuda.FakeRuntime()
    machine = PaperMachine(runtime, paper("fake_tensorrt").make_tensorrt(runtime, request.param), fake_cuda.FakeNvml())
    packages = {"cuda.bindings.runtime": runtime, "tensorrt": machine.library.module, "pynvml": machine.nvml}
    for name, module in packages.items():
        monkeypatch.setitem(sys.modules, name, module)
    usable = tensorrt_availability.Availability(usable=True, version=request.param)
    monkeypatch.setattr("weighbridge.optimize.backends.tensorrt_backend.tensorrt_availability", lambda: usable)
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    return machine
