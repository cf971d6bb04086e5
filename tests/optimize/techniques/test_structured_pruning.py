"""Structured pruning makes weights smaller, answers as if the removed units were never read, and can be made again."""

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from weighbridge.optimize import optimize
from weighbridge.optimize.adoption import adopt
from weighbridge.optimize.backends.base import OpenOptions
from weighbridge.optimize.backends.torch_backend import BACKEND
from weighbridge.optimize.build import cache_key
from weighbridge.optimize.cache import ArtifactCache
from weighbridge.optimize.errors import BuildError, ConfigError, InputError
from weighbridge.optimize.loading import describe, load, read_source_signature
from weighbridge.optimize.losses import divergence
from weighbridge.optimize.model import Examples, Signature, TensorSpec, TorchModel
from weighbridge.optimize.onnx_export import export
from weighbridge.optimize.parity import open_model, outputs_of
from weighbridge.optimize.recipe import Recipe, step_from_dict
from weighbridge.optimize.techniques import StepResult, technique
from weighbridge.optimize.training import TrainingConfig, fit

Get = Callable[[str], Any]
NAMES = ("bert", "gpt2", "llama", "cnn", "lstm", "mlp")


def prune(model: Any, examples: Examples | None = None, **options: Any) -> StepResult:
    step = step_from_dict({"use": "structured-pruning", **options})
    return technique("structured-pruning").apply(model, step, examples or Examples(()), Path(), lambda _: None)


def answers(model: Any, probes: Any) -> Any:
    return np.concatenate([scores.ravel() for scores in outputs_of(open_model(model), model.signature, probes)])


# The weights that read a layer's units, by a naive look at each tiny model: how the layer's name ends, the weight's name
# instead, the axis, and how many entries a unit takes.
READERS = (
    ("intermediate.dense", "output.dense.weight", 1, 1),
    ("self.query", "output.dense.weight", 1, 16),
    ("c_fc", "c_proj.weight", 0, 1),
    ("c_attn", "c_proj.weight", 0, 16),
    ("gate_proj", "down_proj.weight", 1, 1),
    ("q_proj", "o_proj.weight", 1, 16),  # two heads of 8 share a key/value head
    ("0", "2.weight", 1, 1),
    ("2", "5.weight", 1, 9),  # 3 x 3 places a channel after flattening
    ("recurrent.l0", "recurrent.weight_hh_l0", 1, 1),
    ("recurrent.l0", "recurrent.weight_ih_l1", 1, 1),
    ("recurrent.l1", "recurrent.weight_hh_l1", 1, 1),
    ("recurrent.l1", "head.weight", 1, 1),
    ("hidden", "head.weight", 1, 1),
)


def silenced(model: Any, changes: Any) -> TorchModel:
    """A copy of the whole model in which the weights that read the removed units are zero."""
    module = copy.deepcopy(model.module)
    weights = {name: parameter.data for name, parameter in module.named_parameters()}
    for change in changes:
        for ending, reader, axis, width in READERS:
            whole = change["group"] == ending or change["group"].endswith("." + ending)
            for unit in set(range(change["size"])) - set(change["kept"]) if whole else ():
                weight = weights[change["group"].removesuffix(ending) + reader]
                weight.narrow(axis, unit * width, width).zero_()
    return replace(model, module=module)


BLOCKS = {"bert": 2, "gpt2": 2, "llama": 2}
KEPT = {
    "bert": {"intermediate.dense": [32, 64], "self.query": [1, 2]},
    "gpt2": {"c_fc": [64, 128], "c_attn": [1, 2]},
    "llama": {"gate_proj": [32, 64], "q_proj": [1, 2]},
    "cnn": {"0": [2, 4], "2": [4, 8]},
    "lstm": {"l0": [16, 32], "l1": [16, 32]},
    "mlp": {"hidden": [8, 16]},
}


@pytest.mark.parametrize("name", NAMES)
def test_removing_units_is_the_same_as_never_reading_them(torch_model: Get, probes: Any, name: str) -> None:
    """With half of its units gone a model answers, to 1e-5, as the whole one in which nothing reads those units."""
    model = torch_model(name)
    before = answers(model, probes[name])
    result = prune(model, ratio=0.5)
    found = result.details["kept"]
    for ending, kept in KEPT[name].items():
        assert [value for each, value in found.items() if each.endswith(ending)] == [kept] * BLOCKS.get(name, 1)
    assert len(found) == len(KEPT[name]) * BLOCKS.get(name, 1)
    after = answers(result.model, probes[name])
    expected = answers(silenced(model, result.model.changes), probes[name])
    assert np.abs(after - expected).max() < 1e-5 * max(1.0, float(np.abs(expected).max()))
    assert np.abs(after - before).max() > 1e-3
    assert np.array_equal(answers(model, probes[name]), before)


def test_weights_are_physically_smaller(torch_model: Get) -> None:
    """Shapes shrink as counted by hand, sizes stated by the layers follow, and the parameters removed add up."""
    bert = prune(torch_model("bert"), ratio=0.5)
    layer = bert.model.module.bert.encoder.layer[1]
    assert tuple(layer.attention.self.query.weight.shape) == (16, 32)
    assert tuple(layer.attention.output.dense.weight.shape) == (32, 16)
    assert tuple(layer.intermediate.dense.weight.shape) == (32, 32)
    assert (layer.intermediate.dense.out_features, layer.output.dense.in_features) == (32, 32)
    assert (layer.attention.self.num_attention_heads, layer.attention.self.all_head_size) == (1, 16)
    assert bert.details["parameters_removed"] == 2 * (3 * (16 * 32 + 16) + 32 * 16 + 2 * 32 * 32 + 32)
    cnn = prune(torch_model("cnn"), ratio=0.5).model.module
    assert [tuple(cnn[place].weight.shape) for place in (0, 2, 5)] == [(2, 1, 3, 3), (4, 2, 3, 3), (5, 36)]
    assert (cnn[0].out_channels, cnn[2].in_channels, cnn[5].in_features) == (2, 2, 36)
    lstm = prune(torch_model("lstm"), ratio=0.25).model.module.recurrent
    assert (lstm.hidden_size, tuple(lstm.weight_ih_l1.shape), tuple(lstm.weight_hh_l0.shape)) == (
        24,
        (96, 24),
        (96, 24),
    )


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_cache_is_described_anew(torch_model: Get, name: str) -> None:
    """A generator that loses heads or layers says so of its cache."""
    cache = torch_model(name).signature.cache
    pruned = prune(torch_model(name), ratio=0.5, targets=["heads", "layers"]).model.signature.cache
    assert (pruned.layers, pruned.heads, pruned.head_size) == (cache.layers // 2, cache.heads // 2, cache.head_size)


def test_the_smallest_units_go(torch_model: Get) -> None:
    """By magnitude a unit goes by the norm of the weights that make it and that read it, as a naive loop computes it."""
    state = {name: value.numpy() for name, value in torch_model("mlp").module.state_dict().items()}
    norms = [
        sum(state["hidden.weight"][unit] ** 2)
        + state["hidden.bias"][unit] ** 2
        + sum(state["head.weight"][:, unit] ** 2)
        for unit in range(16)
    ]
    kept = prune(torch_model("mlp"), ratio=0.25).model.changes[0]["kept"]
    assert kept == sorted(np.argsort(norms)[4:].tolist())


def test_by_taylor_the_units_go_that_the_loss_misses_least(torch_model: Get, probes: Any) -> None:
    """The score is the loss's derivative by a factor on the unit, found here by a central difference of that factor."""
    import torch

    model, batch, labels = torch_model("mlp"), probes["mlp"][1], np.array([0, 1, 2, 3])
    module = copy.deepcopy(model.module).double().requires_grad_(False)
    features, wanted = torch.from_numpy(batch["features"]).double(), torch.from_numpy(labels)

    def loss(unit: int, factor: float) -> float:
        weight = module.head.weight.detach().clone()
        weight[:, unit] *= factor
        scores = module.hidden(features).relu().detach() @ weight.T + module.head.bias
        return float(torch.nn.functional.cross_entropy(scores, wanted))

    slopes = [abs(loss(unit, 1 + 1e-5) - loss(unit, 1 - 1e-5)) / 2e-5 for unit in range(16)]
    result = prune(model, Examples((), (batch,), labels), ratio=0.25, score="taylor")
    removed = sorted(set(range(16)) - set(result.model.changes[0]["kept"]))
    assert removed == sorted(np.argsort(slopes, kind="stable")[:4].tolist())


def test_frozen_layers_are_scored_by_taylor_alike(torch_model: Get, probes: Any) -> None:
    """Whether its layers may be trained says nothing of what the loss misses: the same units go, and the model stays frozen."""
    model, batches = torch_model("mlp"), probes["mlp"][1:]
    for frozen in ("hidden", "head", ""):
        module = copy.deepcopy(model.module)
        module.get_submodule(frozen).requires_grad_(False)
        changes = [
            prune(each, Examples((), batches), ratio=0.5, score="taylor").model.changes
            for each in (model, replace(model, module=module))
        ]
        assert changes[0] == changes[1]
        assert not any(parameter.requires_grad for parameter in module.get_submodule(frozen).parameters())


def removed_by_activation(model: Any, batches: Any) -> dict[str, list[int]]:
    result = prune(model, Examples((), batches), ratio=0.5, score="activation")
    return {
        change["group"]: sorted(set(range(change["size"])) - set(change["kept"])) for change in result.model.changes
    }


def lowest_half(means: Any) -> list[int]:
    return sorted(np.argsort(means, kind="stable")[: len(means) // 2].tolist())


def test_by_activation_the_units_go_that_say_least(torch_model: Get, probes: Any) -> None:
    """The score is the mean size of a unit's output over all batches, by a naive loop over rows, units and places."""
    mlp, cnn = torch_model("mlp"), torch_model("cnn")
    state = {name: value.numpy().astype(float) for name, value in mlp.module.state_dict().items()}
    rows = [row for batch in probes["mlp"] for row in batch["features"]]
    hidden = [
        [max(0.0, w @ row + b) for w, b in zip(state["hidden.weight"], state["hidden.bias"], strict=True)]
        for row in rows
    ]
    assert removed_by_activation(mlp, probes["mlp"]) == {"hidden": lowest_half(np.mean(hidden, axis=0))}
    import torch

    sums, count = np.zeros(8), 0
    for batch in probes["cnn"]:
        with torch.no_grad():
            maps = cnn.module[:4](torch.from_numpy(batch["input"])).numpy()
        for row in maps:
            count += 1
            sums += [sum(abs(value) for line in channel for value in line) / 9 for channel in row]
    assert removed_by_activation(cnn, probes["cnn"])["2"] == lowest_half(sums / count)


def test_by_activation_padding_says_nothing(torch_model: Get, probes: Any) -> None:
    """In a transformer the inputs of a block's second layer and of its output count, position by position, without padding."""
    import torch

    model, batch = torch_model("bert"), probes["bert"][1]
    layer = model.module.bert.encoder.layer[0]
    seen: dict[str, Any] = {}
    handles = [
        part.dense.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[0].numpy()}))
        for name, part in (("ffn", layer.output), ("heads", layer.attention.output))
    ]
    with torch.no_grad():
        model.module(**{name: torch.from_numpy(array) for name, array in batch.items()})
    for handle in handles:
        handle.remove()
    places = [(row, place) for row in range(4) for place in range(16) if batch["attention_mask"][row, place]]
    assert 0 < len(places) < 64
    ffn = np.mean([np.abs(seen["ffn"][place]) for place in places], axis=0)
    heads = np.mean([np.abs(seen["heads"][place]).reshape(2, 16).mean(axis=1) for place in places], axis=0)
    removed = removed_by_activation(model, (batch,))
    assert removed["bert.encoder.layer.0.intermediate.dense"] == lowest_half(ffn)
    assert removed["bert.encoder.layer.0.attention.self.query"] == lowest_half(heads)
    assert not layer.output.dense._forward_pre_hooks


def sigmoid(value: Any) -> Any:
    return 1 / (1 + np.exp(-value))


def test_by_activation_recurrent_units_are_their_hidden_states(torch_model: Get, probes: Any) -> None:
    """Of a stack of LSTM layers each layer's hidden states count, as the published equations give them step by step."""
    model, (batch,) = torch_model("lstm"), probes["lstm"][1:2]
    state = {name.removeprefix("recurrent."): value.numpy() for name, value in model.module.state_dict().items()}
    inputs = state["embedding.weight"][batch["input_ids"]]
    means = []
    for layer in range(2):
        weights = [state[f"{kind}_l{layer}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        hidden, cell, states = np.zeros((4, 32)), np.zeros((4, 32)), []
        for place in range(inputs.shape[1]):
            gates = inputs[:, place] @ weights[0].T + hidden @ weights[1].T + weights[2] + weights[3]
            enter, forget, value, leave = np.split(gates, 4, axis=1)
            cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(value)
            hidden = sigmoid(leave) * np.tanh(cell)
            states.append(hidden)
        inputs = np.stack(states, axis=1)
        means.append(np.abs(inputs).mean(axis=(0, 1)))
    removed = removed_by_activation(model, (batch,))
    assert removed == {f"recurrent.l{layer}": lowest_half(means[layer]) for layer in range(2)}


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_by_activation_generators_are_pruned_too(torch_model: Get, probes: Any, name: str) -> None:
    """Heads and feed-forward units of a generator have a score each, and no gradient or hook is left behind."""
    model = torch_model(name)
    result = prune(model, Examples((), probes[name][1:]), ratio=0.5, score="activation")
    assert len(result.model.changes) == 4
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in result.model.module.modules())


@pytest.mark.parametrize("name", NAMES)
def test_taylor_needs_no_labels(torch_model: Get, probes: Any, name: str) -> None:
    """Without labels every model is scored on its own answers or next tokens, and is left without gradients."""
    model = torch_model(name)
    result = prune(model, Examples((), probes[name][1:]), ratio=0.5, score="taylor")
    assert result.details["parameters_removed"] > 0
    assert all(parameter.grad is None for parameter in model.module.parameters())


def test_at_most_the_share_is_removed_and_one_unit_stays(torch_model: Get) -> None:
    """The count is rounded down: 0.3 of 2 heads is none; 0.95 of 4 channels leaves one."""
    kept = prune(torch_model("bert"), ratio=0.3).details["kept"]
    assert set(map(tuple, kept.values())) == {(45, 64)}
    assert prune(torch_model("cnn"), ratio=0.95).details["kept"] == {"0": [1, 4], "2": [1, 8]}


def test_targets_choose(torch_model: Get) -> None:
    """Only named targets are pruned, and one that was named without effect is told."""
    result = prune(torch_model("bert"), ratio=0.5, targets=["ffn", "channels"])
    assert {change["target"] for change in result.model.changes} == {"ffn"}
    assert result.details["targets_left"] == ["channels"]


def test_layers_are_dropped_evenly(torch_model: Get, probes: Any) -> None:
    """Of four layers half go, every second; the others answer as a model made of them alone, numbered anew."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": 32, "n_layer": 4, "n_head": 2, "n_positions": 64, "vocab_size": 400}
    module = GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0, initializer_range=0.3, **sizes)).eval()
    signature = torch_model("gpt2").signature
    model = TorchModel(module, replace(signature, cache=replace(signature.cache, layers=4)))
    result = prune(model, ratio=0.5, targets=["layers"])
    assert result.model.changes[0]["kept"] == [0, 2]
    assert [block.attn.layer_idx for block in result.model.module.transformer.h] == [0, 1]
    small = GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0, **(sizes | {"n_layer": 2}))).eval()
    weights = {
        name: value for name, value in module.state_dict().items() if ".h.1." not in name and ".h.3." not in name
    }
    small.load_state_dict({name.replace(".h.2.", ".h.1."): value for name, value in weights.items()})
    expected = answers(replace(model, module=small), probes["gpt2"])
    assert np.abs(answers(result.model, probes["gpt2"]) - expected).max() < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_a_model_pruned_twice_is_saved_and_made_again(torch_model: Get, probes: Any, tmp_path: Path, name: str) -> None:
    """Changes compose: pruned, pruned again, in half precision or not, saved and opened, it has the same answers."""
    once = prune(torch_model(name), ratio=0.5).model
    targets = {"targets": ["layers"]} if name in ("bert", "gpt2", "llama") else {}
    twice = prune(once, ratio=0.5, **targets).model
    assert len(twice.changes) > len(once.changes)
    half = replace(twice, module=copy.deepcopy(twice.module).bfloat16())
    for number, model in enumerate((once, twice, half)):
        folder = tmp_path / str(number)
        folder.mkdir()
        opened: Any = BACKEND.open(folder, BACKEND.build(model, folder), model.signature, OpenOptions())
        saved = opened._module.state_dict()
        assert all(bool((saved[key] == value).all()) for key, value in model.module.state_dict().items())
        again = np.concatenate([each.ravel() for each in outputs_of(opened, model.signature, probes[name])])
        expected = answers(model, probes[name])
        assert np.abs(again - expected).max() < (0.1 if model is half else 1e-5) * np.abs(expected).max()


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_a_saved_pruned_model_is_a_source_to_prune_again(
    torch_model: Get, probes: Any, tmp_path: Path, name: str
) -> None:
    """The folder of a pruned transformers model is loaded as a model of its own, pruned further, saved and opened."""
    once = prune(torch_model(name), ratio=0.5).model
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    BACKEND.build(once, first)
    source = describe("transformers", str(first), once.source.task)
    loaded: Any = load(source)
    assert loaded.changes == once.changes
    assert loaded.signature == once.signature == read_source_signature(source)
    assert np.abs(answers(loaded, probes[name]) - answers(once, probes[name])).max() < 1e-5
    twice = prune(loaded, ratio=0.5, targets=["ffn"]).model
    opened = BACKEND.open(second, BACKEND.build(twice, second), twice.signature, OpenOptions())
    again = np.concatenate([each.ravel() for each in outputs_of(opened, twice.signature, probes[name])])
    assert np.abs(again - answers(twice, probes[name])).max() < 1e-4
    (first / "pruning.json").write_text(json.dumps({"changes": []}), encoding="utf-8")
    assert describe("transformers", str(first), once.source.task).sha256 != source.sha256
    for damage in ("{", "[]", '{"changes": {}}', '{"changes": [{"kind": "units-kept"}]}'):
        (first / "pruning.json").write_text(damage, encoding="utf-8")
        with pytest.raises(InputError, match="not a readable pruning plan .*; build the pruned model again"):
            load(source)


@pytest.mark.parametrize("name", ["lstm", "cnn"])
def test_a_saved_pruned_factory_is_a_source_to_prune_again(
    sources: Any, probes: Any, tmp_path: Path, name: str
) -> None:
    """The folder of a built pruned module is a model: pruned again, exported and quantized, it answers as it should."""
    examples, cache = Examples(probes[name]), ArtifactCache(tmp_path / "cache")
    step = {"use": "structured-pruning", "ratio": 0.25}
    first = optimize(
        sources[name], recipe("torch", "bf16", step, {"use": "half-precision"}), examples=examples, cache=cache
    )
    second = optimize(first.folder, recipe("torch", "fp32", step), examples=examples, cache=cache)
    assert second.manifest.source["reference"] == str(first.folder)
    assert second.manifest.parameters < 0.9 * first.manifest.parameters
    loaded: Any = load(describe("module", str(first.folder), sources[name].task))
    assert len(loaded.changes) == 2
    assert loaded.source.reference == sources[name].reference
    expected = answers(prune(loaded, ratio=0.25).model, probes[name])
    opened: Any = second.open()
    again = np.concatenate([each.ravel() for each in outputs_of(opened, loaded.signature, probes[name])])
    assert np.abs(again - expected).max() < 1e-5
    changes = json.loads((second.folder / "architecture.json").read_text(encoding="utf-8"))["changes"]
    assert changes[:2] == list(loaded.changes)
    assert len(changes) > 2
    adopted = adopt(second.folder, "torch", "fp32", examples=examples, cache=cache)
    assert (adopted.folder / "architecture.json").is_file()
    if name == "lstm":
        int8 = optimize(first.folder, recipe("onnxruntime", "int8"), examples=examples, cache=cache)
        assert [step.step["use"] for step in int8.manifest.steps] == ["export", "dynamic-int8"]
        light: Any = int8.open()
        scores = np.concatenate([each.ravel() for each in outputs_of(light, loaded.signature, probes[name])])
        whole = answers(loaded, probes[name])
        assert np.abs(scores - whole).max() < 0.1 * np.abs(whole).max()


def test_a_pruned_transformers_folder_is_adopted_with_its_plan(torch_model: Get, probes: Any, tmp_path: Path) -> None:
    """Taken as an existing artifact, a pruned folder keeps its plan and answers as before."""
    pruned = prune(torch_model("bert"), ratio=0.5).model
    folder = tmp_path / "pruned"
    folder.mkdir()
    BACKEND.build(pruned, folder)
    adopted = adopt(folder, "torch", "fp32", examples=Examples(probes["bert"]), cache=ArtifactCache(tmp_path / "cache"))
    assert adopted.manifest.files == ("model.safetensors", "config.json", "pruning.json")
    opened: Any = adopted.open()
    again = np.concatenate([each.ravel() for each in outputs_of(opened, pruned.signature, probes["bert"])])
    assert np.abs(again - answers(pruned, probes["bert"])).max() < 1e-5


def test_a_damaged_built_folder_is_refused(sources: Any, probes: Any, tmp_path: Path) -> None:
    """Cut weights, absent weights, a damaged or lying architecture, and a lost factory are input errors that say what to do."""
    built = optimize(
        sources["mlp"],
        recipe("torch", "fp32", {"use": "structured-pruning"}),
        examples=Examples(probes["mlp"]),
        cache=ArtifactCache(tmp_path / "cache"),
    ).folder
    facts = json.loads((built / "architecture.json").read_text(encoding="utf-8"))

    def refused(name: str, content: bytes | None) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(built, folder)
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)
        with pytest.raises(InputError) as caught:
            load(describe("module", str(folder), "tabular-classification"))
        return str(caught.value)

    assert "holds no model.safetensors beside its architecture.json; build the model again" in refused(
        "model.safetensors", None
    )
    weights = (built / "model.safetensors").read_bytes()
    assert "model.safetensors cannot be read (SafetensorError" in refused("model.safetensors", weights[:-8])
    assert "architecture.json does not say how the module is made" in refused("architecture.json", b"{")
    assert "architecture.json does not say how the module is made" in refused("architecture.json", b'{"source": {}}')
    change = {**facts["changes"][0], "kept": [0, 99]}
    lying = json.dumps({**facts, "changes": [change]}).encode()
    assert "kept must rise and stay below 16; given [0, 99]" in refused("architecture.json", lying)
    other = json.dumps({**facts, "changes": []}).encode()
    assert "do not fit the module of tiny_factories.models:mlp" in refused("architecture.json", other)
    lost = json.dumps({**facts, "source": {**facts["source"], "reference": "lost_models:mlp"}}).encode()
    assert "the factory's module lost_models cannot be imported" in refused("architecture.json", lost)


def test_a_damaged_pruned_transformers_folder_is_refused(torch_model: Get, tmp_path: Path) -> None:
    """Cut weights, weights of another plan and a task that the model is not for are input errors."""
    pruned = prune(torch_model("gpt2"), ratio=0.5).model
    BACKEND.build(pruned, tmp_path)
    with pytest.raises(InputError, match="pruned GPT2LMHeadModel, which is no model for text-classification"):
        load(describe("transformers", str(tmp_path), "text-classification"))
    plan = json.loads((tmp_path / "pruning.json").read_text(encoding="utf-8"))
    (tmp_path / "pruning.json").write_text(json.dumps({"changes": plan["changes"][:1]}), encoding="utf-8")
    with pytest.raises(InputError, match="model.safetensors do not fit the module of"):
        load(describe("transformers", str(tmp_path), "text-generation"))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"model.safetensors cannot be read \(SafetensorError"):
        load(describe("transformers", str(tmp_path), "text-generation"))


def test_a_pruned_generator_is_exported(torch_model: Get, probes: Any, tmp_path: Path) -> None:
    """The ONNX graph of a pruned generator, whose cache is smaller, answers as its module."""
    pruned = prune(torch_model("gpt2"), ratio=0.5).model
    exported = export(pruned, probes["gpt2"], tmp_path / "model.onnx")
    difference = np.abs(answers(exported, probes["gpt2"]) - answers(pruned, probes["gpt2"])).max()
    assert difference < 1e-4 * np.abs(answers(pruned, probes["gpt2"])).max()


CHILD = """
import json, sys
from pathlib import Path
import numpy as np
from weighbridge.optimize.variant import Variant
opened = Variant.read(Path(sys.argv[1])).open()
batch = {name: np.array(value) for name, value in json.loads(sys.stdin.read()).items()}
print(json.dumps(opened.arrays(opened.infer(opened.load(batch)))["logits"].tolist()))
"""


def in_another_process(folder: Path, batch: Any) -> Any:
    given = json.dumps({name: array.tolist() for name, array in batch.items()})
    command = [sys.executable, "-P", "-c", CHILD, str(folder)]
    return np.array(json.loads(subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout))


def recipe(backend: str, precision: str, *steps: dict[str, Any]) -> Recipe:
    return Recipe.from_dict({"backend": backend, "precision": precision, "steps": list(steps)})


def test_pruned_then_quantized_variants_are_built_and_reopened(sources: Any, probes: Any, tmp_path: Path) -> None:
    """BERT pruned for torch, and pruned and made INT8 for ONNX Runtime, opens in a fresh process with few disagreements."""
    pruning = {"use": "structured-pruning", "ratio": 0.25, "targets": ["ffn"]}
    examples, cache = Examples(probes["bert"]), ArtifactCache(tmp_path / "cache")
    dense = optimize(sources["bert"], recipe("torch", "fp32", pruning), examples=examples, cache=cache)
    int8 = optimize(
        sources["bert"], recipe("onnxruntime", "int8", pruning, {"use": "dynamic-int8"}), examples=examples, cache=cache
    )
    assert dense.manifest.files[1:] == ("config.json", "pruning.json")
    whole = sum(64 * 32 * 2 + 64 for _ in range(2))
    removed = dense.manifest.steps[0].details["parameters_removed"]
    assert removed == whole // 4
    assert [step.step["use"] for step in int8.manifest.steps] == ["structured-pruning", "export", "dynamic-int8"]
    pruned = in_another_process(dense.folder, probes["bert"][1])
    quantized = in_another_process(int8.folder, probes["bert"][1])
    here: Any = dense.open()
    assert np.abs(pruned - here.arrays(here.infer(here.load(probes["bert"][1])))["logits"]).max() < 1e-5
    assert np.abs(quantized - pruned).max() < 0.1 * np.abs(pruned).max()


@pytest.fixture(scope="module")
def trained() -> tuple[TorchModel, Any, Any]:
    """A small classifier of which quarter of the plane a point lies in, trained, and 400 points with their quarters."""
    import torch

    torch.manual_seed(0)
    points = np.random.default_rng(0).standard_normal((400, 2)).astype(np.float32)
    quarters = ((points[:, 0] > 0) + 2 * (points[:, 1] > 0)).astype(np.int64)
    module = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
    fit(module, {"input": points}, quarters, TrainingConfig(learning_rate=1e-2, epochs=20), silent)
    signature = Signature("classifier", (TensorSpec("x", "float32", ("batch",)),), ("logits",))
    return TorchModel(module, signature), points, quarters


def silent(fraction: float, text: str) -> None:
    del fraction, text


def accuracy(model: Any, points: Any, quarters: Any) -> float:
    return float((answers(model, ({"x": points},)).reshape(-1, 4).argmax(axis=1) == quarters).mean())


@pytest.mark.parametrize("distil", [True, False])
def test_recovery_wins_back_accuracy(trained: Any, distil: bool) -> None:
    """On points that it never saw, a pruned model that learnt again is better than one that did not, and near the whole."""
    model, points, quarters = trained
    examples = Examples((), ({"x": points[:100]}, {"x": points[100:200]}), None if distil else quarters[:200])
    options = {"ratio": 0.9, "learning_rate": 0.02, "distil": distil}
    pruned = prune(model, examples, **options)
    recovered = prune(model, examples, **options, recover_steps=300)
    whole, without, with_recovery = (
        accuracy(each, points[200:], quarters[200:]) for each in (model, pruned.model, recovered.model)
    )
    assert whole > 0.95
    assert without < with_recovery - 0.1
    assert with_recovery > 0.9
    assert 0 < recovered.details["recovery_steps"] <= 300
    assert recovered.details["kept"] == {"0": [4, 32]}


def test_recovery_is_the_same_twice(trained: Any) -> None:
    """One seed gives the same weights, another others; the caller's random numbers and the teacher are left alone."""
    import torch

    model, points, _ = trained
    examples = Examples((), ({"x": points[:64]},))
    teacher = answers(model, ({"x": points},))
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    made = [
        answers(prune(model, examples, ratio=0.5, recover_steps=5, seed=seed).model, ({"x": points},))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(torch.rand(1), expected)
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
    assert np.array_equal(answers(model, ({"x": points},)), teacher)


@pytest.mark.parametrize(
    ("name", "targets"), [("bert", ["ffn"]), ("gpt2", ["ffn", "layers"]), ("llama", ["ffn", "heads"])]
)
def test_transformers_recover_too(torch_model: Get, probes: Any, name: str, targets: list[str]) -> None:
    """A classifier, and generators on windows of tokens, learn their own scores again, nearer to them than without."""
    import torch

    model, batch = torch_model(name), probes[name][1]
    examples = Examples((), (batch, batch))
    options = {"ratio": 0.5, "targets": targets, "temperature": 2.0}
    plain = prune(model, examples, **options)
    taught = prune(model, examples, **options, recover_steps=30, learning_rate=1e-3)

    def distance(pruned: Any) -> float:
        pair = (
            torch.from_numpy(outputs_of(open_model(each), model.signature, (batch,))[0]) for each in (pruned, model)
        )
        return float(divergence(*pair))

    assert distance(taught.model) < distance(plain.model)
    before, after = taught.details["held_out_losses"]
    assert after <= before


def test_a_generator_learns_next_tokens_without_a_teacher(torch_model: Get) -> None:
    """With distil = 0 a pruned generator learns the windows' own next tokens: on a repeating text its held-out loss falls."""
    windows = np.tile(np.arange(4), (20, 4))
    examples = Examples((), ({"input_ids": windows, "attention_mask": np.ones_like(windows)},))
    result = prune(torch_model("gpt2"), examples, ratio=0.5, recover_steps=20, learning_rate=1e-2, distil=0)
    before, after = result.details["held_out_losses"]
    assert after < 0.5 * before


def test_calibration_data_decides_the_cache_key_only_where_it_is_used(sources: Any, probes: Any) -> None:
    """Other calibration data is another variant where pruning learns from it, and the same where it does not."""

    def keys(**options: Any) -> set[str]:
        made = recipe("torch", "fp32", {"use": "structured-pruning", **options})
        return {
            cache_key(sources["mlp"], made, Examples(probes["mlp"], calibration_sha256=each)) for each in ("a", "b")
        }

    assert len(keys()) == 1
    assert len(keys(recover_steps=5)) == 2
    assert len(keys(score="taylor")) == len(keys(score="activation")) == 2


def test_missing_calibration_data_is_a_config_error(sources: Any, torch_model: Get, probes: Any) -> None:
    """Recovery and the Taylor score say that they need calibration data, before a build and in the step itself."""
    for options in ({"recover_steps": 5}, {"score": "taylor"}, {"score": "activation"}):
        with pytest.raises(ConfigError, match=r"learns from calibration data: set \[workload\] calibration"):
            prune(torch_model("mlp"), **options)
        with pytest.raises(ConfigError, match="step 'structured-pruning' needs calibration data"):
            optimize(
                sources["mlp"],
                recipe("torch", "fp32", {"use": "structured-pruning", **options}),
                examples=Examples(probes["mlp"]),
            )


def test_calibration_data_that_does_not_fit_is_a_config_error(torch_model: Get, probes: Any) -> None:
    """Too few rows, rows of several lengths and missing labels each say what to give."""
    with pytest.raises(ConfigError, match="at least one row of data beside the 1 held out; given 1"):
        prune(torch_model("mlp"), Examples((), probes["mlp"][:1]), recover_steps=5)
    with pytest.raises(ConfigError, match="calibration batches of one shape; pad all of them to one length"):
        prune(torch_model("bert"), Examples((), probes["bert"]), recover_steps=5)
    with pytest.raises(
        ConfigError, match="distil below 1 learns from the labels of the calibration data, and it has none"
    ):
        prune(torch_model("mlp"), Examples((), probes["mlp"][1:]), recover_steps=5, distil=False)


def test_inputs_that_forward_does_not_name_are_refused() -> None:
    """A forward that takes its inputs by position only cannot learn from calibration data, and the text says why."""
    import torch

    class Positional(torch.nn.Sequential):
        def forward(self, *rows: Any) -> Any:
            return super().forward(rows[0])

    module = Positional(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    model = TorchModel(module, Signature("classifier", (TensorSpec("x", "float32", ("batch",)),), ("logits",)))
    with pytest.raises(ConfigError, match=r"forward names 0 of 1 \(x\); name every input in forward"):
        prune(model, Examples((), ({"x": np.ones((8, 2), np.float32)},)), targets=["units"], recover_steps=2)


def test_nothing_to_remove_is_refused_with_the_reason(onnx_model: Get, torch_model: Get) -> None:
    """An ONNX graph, a share below one unit, a target that the model lacks: each is refused, and says why."""
    with pytest.raises(BuildError, match="structured-pruning prunes torch modules, not ONNX graphs"):
        prune(onnx_model("mlp"))
    with pytest.raises(
        BuildError, match=r"removed nothing: 0.01 of at most 16 units a layer is less than one; raise ratio"
    ):
        prune(torch_model("mlp"), ratio=0.01)
    with pytest.raises(BuildError, match="removed nothing: no channels whose every reader is known were found"):
        prune(torch_model("mlp"), targets=["channels"])
    with pytest.raises(BuildError, match="removed nothing: it has no list of equal transformer layers"):
        prune(torch_model("mlp"), targets=["layers"])
    with pytest.raises(BuildError, match="removed nothing: 0.4 of 2 layers is less than one; raise ratio"):
        prune(torch_model("bert"), targets=["layers"], ratio=0.4)


@pytest.mark.parametrize(
    ("hidden", "words"),
    [
        (lambda module, output: output * module.num_attention_heads, "so something else depends on them; name other"),
        (lambda _, output: output + output.new_ones(32), r"cannot be run without the units \(RuntimeError: "),
    ],
    ids=["another answer", "no answer"],
)
def test_what_depends_on_the_units_unseen_is_refused(torch_model: Get, probes: Any, hidden: Any, words: str) -> None:
    """Where an attention block uses the number of its heads unseen, pruning is found out and refused."""
    model = replace(torch_model("bert"), module=copy.deepcopy(torch_model("bert").module))

    def changed(module: Any, inputs: Any, output: Any) -> Any:
        del inputs
        return (hidden(module, output[0]), *output[1:])

    model.module.bert.encoder.layer[0].attention.self.register_forward_hook(changed)
    with pytest.raises(BuildError, match=words):
        prune(model, Examples(probes["bert"]), ratio=0.5, targets=["heads"])
