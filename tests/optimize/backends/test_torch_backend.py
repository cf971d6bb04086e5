"""The torch backend: artifacts of safetensors, reopened exactly as they were."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from weighbridge.optimize.backends import torch_backend
from weighbridge.optimize.backends.base import OpenOptions
from weighbridge.optimize.backends.torch_backend import BACKEND, TorchPredictor, open_in_memory
from weighbridge.optimize.errors import BuildError, ConfigError, InputError, UnavailableError
from weighbridge.optimize.loading import load
from weighbridge.optimize.model import Signature, TensorSpec, TorchModel
from weighbridge.optimize.source import Source

Get = Callable[[str], Any]


def scores(opened: Any, batch: Any) -> Any:
    return next(iter(opened.arrays(opened.infer(opened.load(batch))).values()))


def half(model: TorchModel, dtype: str) -> TorchModel:
    import torch

    return replace(model, module=copy.deepcopy(model.module).to(getattr(torch, dtype)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ["bert", "cnn", "lstm", "mlp"])
def test_an_artifact_answers_as_the_module_it_was_made_from(
    torch_model: Get, probes: Any, tmp_path: Path, name: str, dtype: str
) -> None:
    """Saved and opened again, a classifier has the same weights bit for bit and gives the same scores."""
    model = half(torch_model(name), dtype)
    files = BACKEND.build(model, tmp_path)
    opened = BACKEND.open(tmp_path, files, model.signature, OpenOptions())
    for probe in probes[name]:
        given = scores(opened, probe)
        assert given.dtype == np.float32
        tolerance = 1e-5 if dtype == "float32" else 0.1
        assert np.abs(given - scores(open_in_memory(model), probe)).max() < tolerance
    weights = opened._module.state_dict()
    assert {str(weight.dtype) for weight in weights.values() if weight.is_floating_point()} == {f"torch.{dtype}"}
    assert all((weights[key] == weight).all() for key, weight in model.module.state_dict().items())
    assert not opened._module.training


def test_a_transformers_artifact_is_a_folder_without_a_second_copy(torch_model: Get, tmp_path: Path) -> None:
    """The artifact of a transformers model is its config and one file of weights."""
    assert BACKEND.build(torch_model("bert"), tmp_path) == ("model.safetensors", "config.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_tied_weights_are_saved_once_and_tied_again(torch_model: Get, probes: Any, tmp_path: Path) -> None:
    """GPT-2's output layer is its embedding: the file holds it once and the opened model shares it."""
    model = torch_model("gpt2")
    files = BACKEND.build(model, tmp_path)
    expected = sum(parameter.numel() for parameter in model.module.parameters())
    audit = BACKEND.audit(tmp_path, files, "fp32")
    assert audit.parameters == expected
    assert audit.weight_bytes == {"float32": 4 * expected}
    opened = BACKEND.open(tmp_path, files, model.signature, OpenOptions())
    assert opened._module.lm_head.weight is opened._module.transformer.wte.weight
    ids, mask = (probes["gpt2"][0][key] for key in ("input_ids", "attention_mask"))
    difference = opened.step(ids, mask, None)[0] - open_in_memory(model).step(ids, mask, None)[0]
    assert np.abs(difference).max() < 1e-5


def test_tied_weights_of_a_factory_are_saved_once(tmp_path: Path) -> None:
    """A factory's module whose layers share a matrix is saved, counted and reloaded with it shared, in half precision too."""
    code = (
        "from torch import nn\n"
        "class Tied(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__(); self.a = nn.Linear(4, 4); self.b = nn.Linear(4, 4); self.b.weight = self.a.weight\n"
        "    def forward(self, x): return self.b(self.a(x))\n"
        "def factory(): return Tied()\n"
    )
    (tmp_path / "tied_models.py").write_text(code, encoding="utf-8")
    model = load(Source("module", "tied_models:factory", "tabular-classification", "", str(tmp_path)))
    assert isinstance(model, TorchModel)
    folder = tmp_path / "artifact"
    folder.mkdir()
    files = BACKEND.build(half(model, "bfloat16"), folder)
    assert BACKEND.audit(folder, files, "bf16").parameters == 16 + 4 + 4
    opened = BACKEND.open(folder, files, model.signature, OpenOptions())
    assert opened._module.a.weight is opened._module.b.weight


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_decoder_steps_as_if_it_read_everything_at_once(torch_model: Get, name: str, rows: int) -> None:
    """Fed in pieces with its cache, a generator gives the logits of one pass over the whole."""
    import torch

    model = torch_model(name)
    ids = np.random.default_rng(3).integers(0, 100, (rows, 9))
    with torch.inference_mode():
        whole = model.module(input_ids=torch.from_numpy(ids)).logits.numpy()
    decoder = open_in_memory(model)
    past, start = None, 0
    for stop in (5, 6, 9):
        mask = np.ones((rows, stop), np.int64)
        logits, past = decoder.step(ids[:, start:stop], mask, past)
        assert logits.dtype == np.float32
        assert np.abs(logits - whole[:, start:stop]).max() < 1e-4
        start = stop
    last, _ = decoder.step(ids, mask, None, last=True)
    assert last.shape == (rows, 1, whole.shape[2])
    assert np.abs(last[:, 0] - whole[:, -1]).max() < 1e-4


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_left_padding_gives_the_tokens_of_single_requests(torch_model: Get, tmp_path: Path, name: str) -> None:
    """A short prompt padded on the left beside a longer one is continued exactly as alone."""
    model = torch_model(name)
    files = BACKEND.build(model, tmp_path)
    decoder = BACKEND.open(tmp_path, files, model.signature, OpenOptions())
    ids = np.random.default_rng(4).integers(0, 100, (2, 8))
    padded = np.ones_like(ids)
    padded[0, :3] = 0

    def continued(tokens: Any, mask: Any) -> Any:
        past, chosen = None, []
        for _ in range(5):
            logits, past = decoder.step(tokens, mask, past)
            tokens = logits[:, -1:].argmax(-1)
            mask = np.concatenate([mask, np.ones_like(tokens)], axis=1)
            chosen.append(tokens)
        return np.concatenate(chosen, axis=1)

    together = continued(ids, padded)
    assert together[0].tolist() == continued(ids[:1, 3:], np.ones((1, 5), np.int64))[0].tolist()
    assert together[1].tolist() == continued(ids[1:], np.ones((1, 8), np.int64))[0].tolist()


def test_threads_are_those_asked_for(torch_model: Get, tmp_path: Path) -> None:
    """Opening an artifact sets the number of compute threads."""
    import torch

    before = torch.get_num_threads()
    model = torch_model("mlp")
    files = BACKEND.build(model, tmp_path)
    BACKEND.open(tmp_path, files, model.signature, OpenOptions(threads=2))
    assert torch.get_num_threads() == 2
    BACKEND.open(tmp_path, files, model.signature, OpenOptions(threads=1))
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)


def test_an_audit_tells_the_precision_of_the_file(torch_model: Get, tmp_path: Path) -> None:
    """A BF16 file passes as bf16 and as nothing else; the refusal says what is in the file."""
    files = BACKEND.build(half(torch_model("mlp"), "bfloat16"), tmp_path)
    audit = BACKEND.audit(tmp_path, files, "bf16")
    assert audit.ok
    assert audit.reason == ""
    assert audit.weight_bytes == {"bfloat16": 2 * (6 * 16 + 16 + 16 * 4 + 4)}
    assert audit.parameters == 6 * 16 + 16 + 16 * 4 + 4
    assert audit.nodes == {"Linear": 2}
    for precision in ("fp32", "fp16", "int8", "int4"):
        refused = BACKEND.audit(tmp_path, files, precision)
        assert not refused.ok
        assert refused.reason == f"asked for {precision}, but the weights in the file are: bfloat16 360 bytes"


def test_an_audit_counts_zeros_and_module_classes(torch_model: Get, tmp_path: Path) -> None:
    """Exact zeros in the file are the sparsity; modules are counted by class."""
    model = replace(torch_model("cnn"), module=copy.deepcopy(torch_model("cnn").module))
    linear = model.module[-1]
    linear.weight.data[:] = 0
    audit = BACKEND.audit(tmp_path, BACKEND.build(model, tmp_path), "fp32")
    assert audit.sparsity == pytest.approx(72 * 5 / audit.parameters)
    assert audit.nodes == {"Conv2d": 2, "Flatten": 1, "Linear": 1, "ReLU": 2}
    assert audit.providers == ("torch",)


def test_inputs_without_their_names_are_given_in_order(tmp_path: Path) -> None:
    """Where the user named the inputs otherwise than forward does, they are passed by position."""
    code = "from torch import nn\nclass P(nn.Module):\n    def forward(self, *pair): return pair[0] - pair[1]\ndef factory(): return P()\n"
    (tmp_path / "positional_models.py").write_text(code, encoding="utf-8")
    reference = "positional_models:factory"
    model = load(Source("module", reference, "tabular-classification", "", str(tmp_path), None, ("one", "two")))
    assert isinstance(model, TorchModel)
    batch = {"two": np.float32([[1, 1]]), "one": np.float32([[5, 7]])}
    assert scores(open_in_memory(model), batch).tolist() == [[4, 6]]


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda tensor: tensor,
        lambda tensor: (tensor, tensor + 1),
        lambda tensor: [tensor],
        lambda tensor: {"scores": tensor, "more": tensor + 1},
    ],
)
def test_the_first_tensor_is_the_scores(wrapped: Callable[[Any], Any]) -> None:
    """A module may return a tensor, a tuple, a list or a mapping: the first tensor is the class scores."""
    from torch import nn

    class Module(nn.Module):
        def forward(self, x: Any) -> Any:
            return wrapped(2 * x)

    signature = Signature("classifier", (TensorSpec("x", "float32", ("batch",)),), ("logits",))
    opened = TorchPredictor(Module(), signature)
    assert scores(opened, {"x": np.float32([[1, 2]])}).tolist() == [[2, 4]]
    opened.close()


def test_a_module_that_returns_no_tensor_is_refused() -> None:
    """What is returned instead of a tensor is named."""
    from torch import nn

    class Module(nn.Module):
        def forward(self, x: Any) -> Any:
            del x
            return "seven"

    signature = Signature("classifier", (TensorSpec("x", "float32", ("batch",)),), ("logits",))
    opened = TorchPredictor(Module(), signature)
    with pytest.raises(InputError, match="the module returned str; it must return a tensor of class scores"):
        scores(opened, {"x": np.zeros((1, 2), np.float32)})


def test_tensors_take_the_types_that_the_module_wants(torch_model: Get) -> None:
    """Integers become int64, booleans stay, floats take the module's precision; read-only arrays are accepted."""
    import torch

    opened = open_in_memory(half(torch_model("mlp"), "bfloat16"))
    array = np.ones((2, 6), np.float64)
    array.setflags(write=False)
    assert opened.load({"features": array})[1]["features"].dtype == torch.bfloat16
    assert opened.load({"features": np.ones((2, 6), np.uint8)})[1]["features"].dtype == torch.int64
    assert opened.load({"features": np.ones((2, 6), bool)})[1]["features"].dtype == torch.bool


def test_a_missing_input_is_named(torch_model: Get) -> None:
    """Data without one of the model's inputs says which, and what there is."""
    with pytest.raises(InputError, match="input 'features' is not in the data; it has: pixels, rows"):
        open_in_memory(torch_model("mlp")).load({"pixels": np.zeros(1), "rows": np.zeros(1)})


def test_what_cannot_be_built_is_refused(torch_model: Get, onnx_model: Get, tmp_path: Path) -> None:
    """An ONNX graph, and a module that nobody can make again, are refused with what to give instead."""
    with pytest.raises(ConfigError, match=r"needs a torch model; an \.onnx file cannot be turned into one"):
        BACKEND.build(onnx_model("mlp"), tmp_path)
    with pytest.raises(BuildError, match=r"cannot be opened again in another process; give package.module:factory"):
        BACKEND.build(replace(torch_model("mlp"), source=None), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_structural_changes_of_a_later_release_are_refused(torch_model: Get, tmp_path: Path) -> None:
    """An artifact whose architecture was changed in an unknown way says to build it again."""
    model = replace(torch_model("mlp"), changes=({"kind": "heads-removed", "layer": 1},))
    files = BACKEND.build(model, tmp_path)
    with pytest.raises(BuildError, match=r"unknown structural change 'heads-removed' of a Mlp.*build it again"):
        BACKEND.open(tmp_path, files, model.signature, OpenOptions())


def test_an_artifact_of_another_architecture_is_refused(torch_model: Get, tmp_path: Path) -> None:
    """Where the factory no longer makes what was saved, opening is an input error that names the factory."""
    model = torch_model("mlp")
    files = BACKEND.build(model, tmp_path)
    facts = json.loads((tmp_path / "architecture.json").read_text(encoding="utf-8"))
    facts["source"]["reference"] = "tiny_factories.models:cnn"
    (tmp_path / "architecture.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(InputError, match=r"do not fit the module of tiny_factories.models:cnn"):
        BACKEND.open(tmp_path, files, model.signature, OpenOptions())


def test_a_damaged_transformers_artifact_is_refused(torch_model: Get, tmp_path: Path) -> None:
    """A folder whose config is gone cannot be opened, and says so."""
    model = torch_model("bert")
    files = BACKEND.build(model, tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be opened as a transformers model"):
        BACKEND.open(tmp_path, files, model.signature, OpenOptions())


def test_the_device_must_be_there(torch_model: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA without a device is unavailable, with the setting to change; an unknown device is a config error."""
    import torch

    model = torch_model("mlp")
    files = BACKEND.build(model, tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnavailableError, match=r'torch sees no CUDA device here; set device = "cpu" under \[measure\]'):
        BACKEND.open(tmp_path, files, model.signature, OpenOptions(provider="cuda"))
    with pytest.raises(ConfigError, match=r"torch has no device 'tpu' here\. Allowed: cpu, cuda"):
        BACKEND.open(tmp_path, files, model.signature, OpenOptions(provider="tpu"))


@pytest.mark.gpu
def test_a_cuda_device_gives_the_cpus_answers(torch_model: Get, probes: Any, tmp_path: Path) -> None:
    """On a GPU a classifier and a decoder answer as on the CPU, and the answer is finished when the call returns."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    for name in ("bert", "cnn"):
        model, folder = torch_model(name), tmp_path / name
        folder.mkdir()
        opened = BACKEND.open(folder, BACKEND.build(model, folder), model.signature, OpenOptions(provider="cuda"))
        assert next(opened._module.parameters()).is_cuda
        expected = scores(open_in_memory(TorchModel(copy.deepcopy(model.module), model.signature)), probes[name][1])
        assert np.abs(scores(opened, probes[name][1]) - expected).max() < 1e-2
    model, folder = torch_model("gpt2"), tmp_path / "gpt2"
    folder.mkdir()
    decoder = BACKEND.open(folder, BACKEND.build(model, folder), model.signature, OpenOptions(provider="cuda"))
    ids, mask = (probes["gpt2"][1][key] for key in ("input_ids", "attention_mask"))
    expected = open_in_memory(model).step(ids, mask, None)[0]
    assert np.abs(decoder.step(ids, mask, None)[0] - expected).max() < 1e-2


def test_default_steps_follow_from_the_precision() -> None:
    """fp32 needs no step, half precisions their conversion, int8 torch's own dynamic quantization."""
    assert BACKEND.default_steps("fp32", "classifier") == ()
    for precision in ("fp16", "bf16"):
        steps = [step.to_dict() for step in BACKEND.default_steps(precision, "classifier")]
        assert steps == [{"use": "half-precision", "dtype": precision}]
    steps = [step.to_dict() for step in BACKEND.default_steps("int8", "classifier")]
    assert steps == [{"use": "torch-dynamic-int8", "exclude": []}]


def test_availability_needs_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed, the version is told; otherwise the reason and the command."""
    import torch

    assert BACKEND.availability().usable
    assert BACKEND.availability().version == torch.__version__
    monkeypatch.setattr(torch_backend.importlib.util, "find_spec", lambda name: None if name == "torch" else name)
    absent = BACKEND.availability()
    assert (absent.usable, absent.reason, absent.remedy) == (False, "torch is not installed", "pip install torch")
