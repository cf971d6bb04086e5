"""Torch's own dynamic INT8: which layers are replaced by which integers, that they last, and what is refused."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from weighbridge.optimize import adopt, optimize
from weighbridge.optimize.backends.base import OpenOptions
from weighbridge.optimize.backends.torch_backend import BACKEND
from weighbridge.optimize.cache import ArtifactCache
from weighbridge.optimize.errors import BuildError, ConfigError, InputError
from weighbridge.optimize.loading import describe, load
from weighbridge.optimize.model import Examples, OnnxModel, Signature, TensorSpec, TorchModel
from weighbridge.optimize.parity import open_model, outputs_of
from weighbridge.optimize.recipe import Recipe, step_from_dict
from weighbridge.optimize.source import Source
from weighbridge.optimize.techniques import torch_dynamic_int8
from weighbridge.optimize.torch_int8 import int8_layers

Get = Callable[[str], Any]
STEP = "torch-dynamic-int8"


def saved(model: TorchModel, folder: Path) -> dict[str, Any]:
    """The tensors of the artifact of a model, as arrays."""
    from safetensors.numpy import load_file

    return dict(load_file(folder / BACKEND.build(model, folder)[0]))


def naive(weight: Any) -> tuple[Any, Any]:
    """Each row divided by its largest number over 127.5, rounded, within 8 bits; and what each row was divided by."""
    rows = [row.astype(np.float64) for row in weight]
    scales = [max(abs(row)) / 127.5 for row in rows]
    return np.stack([np.clip(row / scale, -128, 127) for row, scale in zip(rows, scales, strict=True)]), np.array(
        scales
    )


@pytest.mark.parametrize(
    ("name", "weight", "turned"),
    [
        ("mlp", "hidden.weight", False),
        ("lstm", "recurrent.weight_hh_l1", False),
        ("gpt2", "transformer.h.1.mlp.c_fc.weight", True),
        ("gpt2", "lm_head.weight", False),
    ],
)
def test_integers_are_those_of_a_naive_loop(
    torch_model: Get, apply: Any, tmp_path: Path, name: str, weight: str, turned: bool
) -> None:
    """The file holds, for each output, the float weight over its scale to within rounding; a Conv1D's turned round."""
    model = torch_model(name)
    before = model.module.state_dict()[weight].numpy()
    tensors = saved(apply(model, STEP).model, tmp_path)
    exact, scales = naive(before.T if turned else before)
    assert tensors[weight].dtype == np.int8
    assert np.abs(tensors[weight] - exact).max() <= 0.5 + 1e-3
    assert np.allclose(tensors[f"{weight}_scale"], scales, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "replaced", "bound"),
    [
        ("bert", {"Linear": 14}, 0.3),
        ("gpt2", {"Conv1D": 8, "Linear": 1}, 0.3),
        ("llama", {"Linear": 15}, 0.3),
        ("lstm", {"LSTM": 1, "Linear": 1}, 0.05),
        ("mlp", {"Linear": 2}, 0.05),
    ],
)
def test_an_artifact_answers_as_the_quantized_module(
    torch_model: Get, apply: Any, probes: Any, tmp_path: Path, name: str, replaced: dict[str, int], bound: float
) -> None:
    """Opened again, a classifier gives the same scores bit for bit, a generator to rounding; all stay near the float ones."""
    model = torch_model(name)
    result = apply(model, STEP)
    assert result.details["modules_replaced"] == replaced
    files = BACKEND.build(result.model, tmp_path)
    opened = BACKEND.open(tmp_path, files, model.signature, OpenOptions())
    given = outputs_of(opened, model.signature, probes[name])
    expected = outputs_of(open_model(result.model), model.signature, probes[name])
    exact = outputs_of(open_model(model), model.signature, probes[name])
    largest = max(np.abs(scores).max() for scores in exact)
    for one, same, float_one in zip(given, expected, exact, strict=True):
        assert np.abs(one - same).max() <= (1e-5 * largest if model.signature.kind == "decoder" else 0)
        assert 0 < np.abs(one - float_one).max() < bound * largest
    opened.close()


def test_the_file_is_smaller_by_three_quarters_of_the_replaced_weights(
    torch_model: Get, apply: Any, tmp_path: Path
) -> None:
    """Of each replaced weight one byte is left and a scale an output; the audit counts them as they lie in the file."""
    model = torch_model("lstm")
    sizes = []
    for number, each in enumerate((model, apply(model, STEP).model)):
        folder = tmp_path / f"built-{number}"
        folder.mkdir()
        files = BACKEND.build(each, folder)
        sizes.append((folder / files[0]).stat().st_size)
    weights = 2 * 4 * 32 * 32 + 4 * 32 * (16 + 32) + 3 * 32
    outputs = 4 * 4 * 32 + 3
    audit = BACKEND.audit(folder, files, "int8")
    assert files == ("model.safetensors", "architecture.json", "int8.json")
    assert audit.ok
    assert audit.weight_bytes == {"float32": 4 * (100 * 16 + outputs + outputs), "int8": weights}
    assert audit.parameters == sum(parameter.numel() for parameter in model.module.parameters())
    assert audit.nodes == {"DynamicQuantizedLSTM": 1, "DynamicQuantizedLinear": 1, "Embedding": 1}
    header = 1000
    assert 3 * weights - 4 * outputs - header < sizes[0] - sizes[1] < 3 * weights - 4 * outputs + header
    assert BACKEND.audit(folder, files, "fp32").reason == "asked for fp32, but 2 layers multiply 8-bit weights"


def test_int8_alone_is_this_step(sources: dict[str, Source], probes: Any, tmp_path: Path) -> None:
    """From a generator's folder, torch int8 is built, audited and verified with its cache, and says what stays in float."""
    examples, cache = Examples(probes["gpt2"]), ArtifactCache(tmp_path / "artifacts")
    manifest = optimize(sources["gpt2"], "torch-int8", examples=examples, cache=cache).manifest
    assert [record.step["use"] for record in manifest.steps] == [STEP]
    assert manifest.files == ("model.safetensors", "config.json", "int8.json")
    assert manifest.audit.nodes["DynamicQuantizedLinear"] == 9
    assert manifest.parity is not None
    assert manifest.parity.cosine > 0.95
    assert manifest.note.startswith("linear and recurrent layers in 8 bits only")


PRUNE = {"use": "structured-pruning", "ratio": 0.5}


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("bert", ("model.safetensors", "config.json", "int8.json", "pruning.json")),
        ("lstm", ("model.safetensors", "architecture.json", "int8.json")),
    ],
)
def test_a_pruned_model_is_quantized(
    sources: dict[str, Source], probes: Any, tmp_path: Path, name: str, files: tuple[str, ...]
) -> None:
    """After pruning, the smaller layers are the ones in 8 bits; the artifact opens, and can be adopted."""
    recipe = Recipe("torch", "int8", (step_from_dict(PRUNE), step_from_dict({"use": STEP})))
    examples, cache = Examples(probes[name]), ArtifactCache(tmp_path / "artifacts")
    variant = optimize(sources[name], recipe, examples=examples, cache=cache)
    assert variant.manifest.files == files
    opened: Any = variant.open()
    layers = int8_layers(opened._module)
    if name == "bert":
        assert layers["bert.encoder.layer.0.intermediate.dense"].weight().shape == (32, 32)
    else:
        assert layers["recurrent"].hidden_size == 16
    given = outputs_of(opened, variant.manifest.signature, probes[name])
    taken = adopt(variant.folder, "torch", None, examples=examples, reference=sources[name], cache=cache)
    assert taken.manifest.precision == "int8"
    again = outputs_of(taken.open(), taken.manifest.signature, probes[name])
    assert all(np.array_equal(one, other) for one, other in zip(given, again, strict=True))


def test_named_layers_stay_in_float(torch_model: Get, apply: Any, tmp_path: Path) -> None:
    """What `exclude` names keeps its weights bit for bit, is told, and is opened as it was; the source is not changed."""
    model = torch_model("gpt2")
    names = ["transformer.h.0.attn.c_attn", "lm_head"]
    result = apply(model, STEP, exclude=names)
    assert result.details["layers_excluded"] == names
    assert len(result.details["layers_quantized"]) == 7
    files = BACKEND.build(result.model, tmp_path)
    opened: Any = BACKEND.open(tmp_path, files, model.signature, OpenOptions())
    kept = opened._module.get_submodule(names[0])
    assert type(kept).__name__ == "Conv1D"
    assert bool((kept.weight == model.module.get_submodule(names[0]).weight).all())
    assert opened._module.lm_head.weight is opened._module.transformer.wte.weight
    assert not int8_layers(model.module)


def test_a_layer_that_is_not_there_cannot_stay(torch_model: Get, apply: Any) -> None:
    """The text names the nearest layer that there is."""
    with pytest.raises(
        ConfigError,
        match="step 'torch-dynamic-int8' cannot exclude 'hiden': the model has no such layer; did you mean 'hidden'",
    ):
        apply(torch_model("mlp"), STEP, exclude=["hiden"])


def classifier(module: Any) -> TorchModel:
    return TorchModel(module.eval(), Signature("classifier", (TensorSpec("input", "", ("batch",)),), ("logits",)))


def test_a_model_of_convolutions_is_refused(apply: Any) -> None:
    """Where there is nothing to replace the text says what could be, and what there is."""
    from torch import nn

    convolutions = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.Flatten())
    with pytest.raises(
        BuildError,
        match="torch-dynamic-int8 replaced no layer; it replaces Linear, LSTM and GRU layers inside a module; "
        "the module has 2 Conv2d, 1 Flatten, 1 ReLU$",
    ):
        apply(classifier(convolutions), STEP)


def test_a_model_that_is_mostly_convolutions_fails_its_audit(tmp_path: Path) -> None:
    """A small linear layer behind large convolutions does not make a model INT8, and the sizes are told."""
    (tmp_path / "heavy_models.py").write_text(
        "from torch import nn\n"
        "def factory(): return nn.Sequential(nn.Conv2d(1, 32, 3), nn.Conv2d(32, 32, 3), nn.AdaptiveAvgPool2d(1), "
        "nn.Flatten(), nn.Linear(32, 5))\n",
        encoding="utf-8",
    )
    source = describe("module", "heavy_models:factory", "image-classification", search_path=str(tmp_path))
    images = {"input": np.random.default_rng(0).standard_normal((4, 1, 8, 8)).astype(np.float32)}
    with pytest.raises(
        BuildError,
        match=r"asked for int8, but most weights of linear, recurrent and convolution layers are still floating point "
        r"\(38016 bytes against 160 in 8 bits\): this technique does not fit the model",
    ):
        optimize(source, "torch-int8", examples=Examples((images,)), cache=ArtifactCache(tmp_path / "artifacts"))


def test_weights_that_are_computed_count_as_float() -> None:
    """A layer under weight norm has no 8-bit form: what it multiplies counts against INT8 as any float weight does."""
    from torch import nn
    from weighbridge.optimize.torch_audit import _float_bytes

    normed = nn.utils.parametrizations.weight_norm(nn.Linear(8, 16))
    assert _float_bytes(nn.Sequential(normed, nn.Linear(16, 4))) == 4 * (8 * 16 + 16 * 4)


def test_transformer_layers_of_torch_itself_are_quantized(apply: Any) -> None:
    """Their fused kernel, which reads float weights, is not taken; attention, which has no 8-bit form, stays in float."""
    import torch

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.encoder = torch.nn.TransformerEncoder(layer, 2)
            self.head = torch.nn.Linear(16, 3)

        def forward(self, features: Any) -> Any:
            return self.head(self.encoder(features)[:, 0])

    torch.manual_seed(0)
    model = classifier(Encoder())
    result = apply(model, STEP)
    features = torch.randn(3, 5, 16)
    with torch.inference_mode():
        exact, given = model.module(features), result.model.module(features)
    assert len(int8_layers(result.model.module)) == 5
    assert 0 < float((given - exact).abs().max()) < 0.05 * float(exact.abs().max())


def test_recurrent_layers_that_have_no_8_bit_form_stay(apply: Any) -> None:
    """Without biases, or with a projection, torch's own replacement would be wrong or refuse: they are left in float."""
    from torch import nn

    plain = nn.ModuleDict(
        {
            "taken": nn.GRU(4, 4, bidirectional=True),
            "biasless": nn.LSTM(4, 4, bias=False),
            "projected": nn.LSTM(4, 4, proj_size=2),
        }
    )
    assert apply(classifier(plain), STEP).details["layers_quantized"] == ["taken"]


def test_a_layer_in_two_places_is_in_both_in_8_bits(tmp_path: Path) -> None:
    """Shared by two places of a module, a layer is quantized, saved and opened in both."""
    code = (
        "import torch\n"
        "class Twice(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__(); self.a = torch.nn.Linear(6, 6); self.b = self.a\n"
        "    def forward(self, x): return self.b(torch.relu(self.a(x)))\n"
        "def factory(): return Twice()\n"
    )
    (tmp_path / "twice_models.py").write_text(code, encoding="utf-8")
    source = describe("module", "twice_models:factory", "tabular-classification", search_path=str(tmp_path))
    rows = {"x": np.random.default_rng(1).standard_normal((5, 6)).astype(np.float32)}
    cache = ArtifactCache(tmp_path / "artifacts")
    variant = optimize(source, "torch-int8", examples=Examples((rows,)), cache=cache)
    opened: Any = variant.open()
    assert list(int8_layers(opened._module)) == ["a", "b"]


def test_what_torch_refuses_is_a_sentence(torch_model: Get, apply: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX graph is sent to the other technique; an error of torch's names its kind."""
    with pytest.raises(
        BuildError, match="torch-dynamic-int8 quantizes torch modules; use dynamic-int8 for ONNX graphs"
    ):
        apply(OnnxModel(Path("model.onnx"), torch_model("mlp").signature), STEP)

    def refuse(*_: Any) -> None:
        raise RuntimeError("no kernel\nfor this")

    monkeypatch.setattr(torch_dynamic_int8, "copy_with_linear", refuse)
    with pytest.raises(BuildError, match="torch-dynamic-int8: torch refused the module: RuntimeError: no kernel$"):
        apply(torch_model("mlp"), STEP)


@pytest.mark.parametrize("later", ["magnitude-pruning", "structured-pruning"])
def test_float_weights_are_changed_before(sources: dict[str, Source], probes: Any, tmp_path: Path, later: str) -> None:
    """A step on float weights after the one that leaves integers is refused before anything is built."""
    recipe = Recipe("torch", "int8", (step_from_dict({"use": STEP}), step_from_dict({"use": later})))
    with pytest.raises(
        ConfigError, match=f"step '{later}' cannot follow step '{STEP}', which leaves integers: put it before that one"
    ):
        optimize(sources["mlp"], recipe, examples=Examples(probes["mlp"]), cache=ArtifactCache(tmp_path / "a"))


def test_half_precision_and_other_backends_have_no_use_of_it(
    sources: dict[str, Source], probes: Any, tmp_path: Path
) -> None:
    """It is combined with no half precision, and ONNX Runtime cannot run what it leaves."""
    step, half = step_from_dict({"use": STEP}), step_from_dict({"use": "half-precision"})
    cache = ArtifactCache(tmp_path / "a")
    with pytest.raises(ConfigError, match="cannot follow step 'half-precision': it cannot change what that one leaves"):
        optimize(sources["mlp"], Recipe("torch", "int8", (half, step)), examples=Examples(probes["mlp"]), cache=cache)
    with pytest.raises(ConfigError, match="leaves a model that only backend torch can run, not onnxruntime"):
        optimize(sources["mlp"], Recipe("onnxruntime", "int8", (step,)), examples=Examples(probes["mlp"]), cache=cache)


@pytest.mark.parametrize("name", ["bert", "mlp"])
def test_nothing_is_built_from_integers(torch_model: Get, apply: Any, tmp_path: Path, name: str) -> None:
    """The folder of such a variant is no model to start from; the text says how it can be weighed."""
    BACKEND.build(apply(torch_model(name), STEP).model, tmp_path)
    kind: Any = "transformers" if name == "bert" else "module"
    task: Any = "text-classification" if name == "bert" else "tabular-classification"
    with pytest.raises(InputError, match=r"holds weights in 8 bits, from which nothing can be built.*artifact = "):
        load(describe(kind, str(tmp_path), task))


def test_a_plan_that_does_not_fit_is_told(torch_model: Get, apply: Any, tmp_path: Path) -> None:
    """A plan of another architecture, of layers that the file holds in float, or of none that could be: each says to build again."""
    model = torch_model("mlp")
    quantized = apply(model, STEP, exclude=["head"]).model
    files = BACKEND.build(quantized, tmp_path)
    plan = json.loads((tmp_path / "int8.json").read_text(encoding="utf-8"))

    def opened_with(**changes: Any) -> None:
        (tmp_path / "int8.json").write_text(json.dumps({**plan, **changes}), encoding="utf-8")
        BACKEND.open(tmp_path, files, model.signature, OpenOptions())

    opened_with()
    with pytest.raises(InputError, match="INT8 layer body of .* the architecture has no such layer; build the variant"):
        opened_with(layers=["body"])
    with pytest.raises(InputError, match="INT8 layer head of .* the file holds no integers of it; build the variant"):
        opened_with(layers=["hidden", "head"])
    with pytest.raises(
        InputError,
        match=r"do not fit the module of tiny_factories.models:mlp: hidden.weight is torch.int8 instead of torch.float32",
    ):
        opened_with(layers=[])
    with pytest.raises(InputError, match="int8.json is not a readable plan of INT8 layers .*; build the variant again"):
        opened_with(scheme="ours")


def test_integers_that_do_not_fit_are_told(torch_model: Get, apply: Any, tmp_path: Path) -> None:
    """Scales of another number, or weights of another type, are no INT8 layer."""
    from safetensors.torch import load_file, save_file

    model = torch_model("mlp")
    files = BACKEND.build(apply(model, STEP).model, tmp_path)
    tensors = load_file(tmp_path / files[0])
    for key, damaged in (
        ("hidden.weight_scale", tensors["hidden.weight_scale"][:3].clone()),
        ("hidden.weight", tensors["hidden.weight"].float()),
    ):
        save_file({**tensors, key: damaged}, tmp_path / files[0])
        with pytest.raises(
            InputError, match=r"INT8 layer hidden of .* integers of shape \(16, 6\) with .* scales; build"
        ):
            BACKEND.open(tmp_path, files, model.signature, OpenOptions())


def test_it_runs_on_the_cpu_only(torch_model: Get, apply: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for on a CUDA device it is unavailable, with the setting to change."""
    import torch
    from weighbridge.optimize.errors import UnavailableError

    model = torch_model("mlp")
    files = BACKEND.build(apply(model, STEP).model, tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UnavailableError, match='INT8 of torch runs on the CPU only; set device = "cpu"'):
        BACKEND.open(tmp_path, files, model.signature, OpenOptions(provider="cuda"))


def test_copies_are_independent(torch_model: Get, apply: Any) -> None:
    """A quantized model can be copied, as steps do, and the copy answers the same."""
    import torch

    result = apply(torch_model("lstm"), STEP).model
    copied = replace(result, module=copy.deepcopy(result.module))
    ids = torch.arange(12).view(2, 6)
    with torch.inference_mode():
        assert torch.equal(copied.module(ids), result.module(ids))
