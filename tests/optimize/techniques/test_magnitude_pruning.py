"""Magnitude pruning zeroes the smallest weights, as many as asked for, and nothing else."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weighbridge.optimize.errors import BuildError, ConfigError
from weighbridge.optimize.model import Examples, Signature, TensorSpec, TorchModel
from weighbridge.optimize.recipe import step_from_dict
from weighbridge.optimize.techniques import technique
from weighbridge.optimize.techniques.magnitude_pruning import weight_matrices

Get = Callable[[str], Any]

# Names of the weights that may be pruned, by a naive look at each tiny model's state.
PRUNED = {
    "bert": lambda name: name.endswith("weight") and "LayerNorm" not in name and "embeddings" not in name,
    "gpt2": lambda name: (
        name.endswith("weight")
        and "ln_" not in name
        and "wte" not in name
        and "wpe" not in name
        and "lm_head" not in name
    ),
    "lstm": lambda name: "weight" in name and "embedding" not in name,
    "cnn": lambda name: name.endswith("weight"),
    "mlp": lambda name: name.endswith("weight"),
}


@pytest.mark.parametrize("name", sorted(PRUNED))
def test_only_layers_weights_are_pruned_the_smallest_first(torch_model: Get, apply: Any, name: str) -> None:
    """In each weight matrix half of the numbers, those of least magnitude, are zero; embeddings, norms and biases stay."""
    model = torch_model(name)
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    result = apply(model, "magnitude-pruning", sparsity=0.5)
    pruned = 0
    for key, value in result.model.module.state_dict().items():
        old, new = before[key].numpy(), value.numpy()
        assert np.array_equal(model.module.state_dict()[key].numpy(), old)
        if not PRUNED[name](key):
            assert np.array_equal(new, old)
            continue
        pruned += 1
        order = np.argsort(np.abs(old), axis=None, kind="stable")[: round(old.size / 2)]
        expected = old.copy().ravel()
        expected[order] = 0
        assert np.array_equal(new, expected.reshape(old.shape))
    assert result.details["weight_matrices"] == pruned
    assert result.details["sparsity"] == pytest.approx(0.5, abs=0.01)


def test_the_global_scope_spares_layers_of_large_weights(apply: Any) -> None:
    """Chosen over all weights the zeros fall where the weights are small; layer by layer each layer gets its share."""
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    with torch.no_grad():
        module[0].weight.copy_(torch.arange(1, 17).view(4, 4))
        module[1].weight.copy_(torch.arange(101, 117).view(4, 4))
    model = TorchModel(module, Signature("classifier", (), ("logits",)))
    zeros = {
        scope: [
            int((matrix.weight == 0).sum())
            for matrix in weight_matrices(apply(model, "magnitude-pruning", scope=scope).model.module)
        ]
        for scope in ("global", "layer")
    }
    assert zeros == {"global": [16, 0], "layer": [8, 8]}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0.01, 0.99), scope=st.sampled_from(["layer", "global"]), equal=st.booleans())
def test_the_share_is_kept_to_the_last_weight(share: float, scope: str, equal: bool) -> None:
    """For every share, and among weights that are all alike, exactly the rounded count of them becomes zero."""
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(7, 5))
    if equal:
        torch.nn.init.ones_(module[0].weight)
    step = step_from_dict({"use": "magnitude-pruning", "sparsity": share, "scope": scope})
    model = TorchModel(module, Signature("classifier", (), ("logits",)))
    result = technique("magnitude-pruning").apply(model, step, Examples(()), None, lambda _: None)  # type: ignore[arg-type]
    assert result.details["sparsity"] == pytest.approx(round(share * 35) / 35)
    assert int((result.model.module[0].weight == 0).sum()) == round(share * 35)  # type: ignore[union-attr]


def test_attention_weights_are_pruned_too(apply: Any) -> None:
    """The joined projection of torch's attention is a weight matrix like others."""
    import torch

    module = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    result = apply(TorchModel(module, Signature("classifier", (), ("logits",))), "magnitude-pruning", sparsity=0.25)
    assert result.details["weight_matrices"] == 4
    assert int((result.model.module.self_attn.in_proj_weight == 0).sum()) == 8 * 24 // 4


# The axis of a weight's inputs, by a naive look at each tiny model's state: GPT-2's layers are transposed.
INPUT_AXES = {"bert": 1, "gpt2": 0, "lstm": 1, "cnn": 1, "mlp": 1}
LEFT = {"cnn": {"0.weight": 1}, "mlp": {"hidden.weight": 6}}


@pytest.mark.parametrize("name", sorted(PRUNED))
def test_two_of_every_four_inputs_are_zeroed(torch_model: Get, apply: Any, name: str) -> None:
    """By a naive loop over each weight's inputs, the two smaller of every four are zero; other weights are left and told."""
    model = torch_model(name)
    result = apply(model, "magnitude-pruning", pattern="2:4")
    left = LEFT.get(name, {})
    for key, value in result.model.module.state_dict().items():
        expected = model.module.state_dict()[key].numpy().copy()
        if PRUNED[name](key) and key not in left:
            rows = np.moveaxis(expected, INPUT_AXES[name], -1)
            for place in np.ndindex(rows.shape[:-1]):
                for start in range(0, rows.shape[-1], 4):
                    four = rows[place][start : start + 4]
                    four[np.argsort(np.abs(four), kind="stable")[:2]] = 0
        assert np.array_equal(value.numpy(), expected)
    assert result.details["sparsity"] == 0.5
    assert set(result.details["layers"].values()) == {0.5}
    told = {key: f"{inputs} inputs, no multiple of 4" for key, inputs in left.items()}
    assert result.details.get("layers_left", {}) == told


def test_transposed_and_grouped_convolutions_have_the_pattern_along_their_inputs(apply: Any) -> None:
    """A transposed convolution's inputs lie on its first axis, a grouped one's on its second, a group's share of them."""
    import torch

    module = torch.nn.Sequential(torch.nn.ConvTranspose2d(8, 6, 3), torch.nn.Conv2d(6, 6, 3, groups=3))
    model = TorchModel(module, Signature("classifier", (), ("logits",)))
    result = apply(model, "magnitude-pruning", pattern="2:4")
    zeros = (result.model.module[0].weight == 0).view(2, 4, -1).sum(dim=1)
    assert bool((zeros == 2).all())
    assert result.details["layers_left"] == {"1.weight": "2 inputs, no multiple of 4"}


def test_weights_that_a_parametrization_computes_are_left_and_told(apply: Any) -> None:
    """Weight norm computes a layer's weight anew at every call: it stays as it is, does not count, and is named with the reason."""
    import torch
    from torch.nn.utils.parametrizations import weight_norm

    recurrent = torch.nn.LSTM(4, 4)
    torch.nn.utils.parametrize.register_parametrization(recurrent, "weight_hh_l0", torch.nn.Tanh(), unsafe=True)
    module = torch.nn.Sequential(weight_norm(torch.nn.Linear(8, 16)), torch.nn.Linear(16, 4), recurrent)
    result = apply(TorchModel(module, Signature("classifier", (), ("logits",))), "magnitude-pruning", sparsity=0.25)
    pruned = result.model.module
    assert torch.equal(pruned[0].weight, module[0].weight)
    assert torch.equal(pruned[2].weight_hh_l0, module[2].weight_hh_l0)
    assert [int((weight == 0).sum()) for weight in (pruned[1].weight, pruned[2].weight_ih_l0)] == [16, 16]
    assert result.details["layers"] == {"1.weight": 0.25, "2.weight_ih_l0": 0.25}
    assert result.details["weights_pruned"] == 4 * 16 + 16 * 4
    assert list(result.details["layers_left"]) == ["0.weight", "2.weight_hh_l0"]
    assert all("no parameter of its layer" in reason for reason in result.details["layers_left"].values())


@pytest.mark.parametrize("options", [{"sparsity": 0.6}, {"scope": "global"}])
def test_a_pattern_that_contradicts_itself_is_refused(options: dict[str, Any]) -> None:
    """2:4 is half of every layer: another share, or a choice over all layers, says what to leave out."""
    with pytest.raises(
        ConfigError, match=r'pattern = "2:4" zeroes half .* Leave both out, or take pattern = "unstructured"'
    ):
        step_from_dict({"use": "magnitude-pruning", "pattern": "2:4", **options})


def learner() -> tuple[TorchModel, tuple[Any, ...]]:
    """A network of random weights over 8 features, and batches of them."""
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    batches = tuple({"x": np.random.default_rng(seed).standard_normal((40, 8)).astype(np.float32)} for seed in (1, 2))
    return TorchModel(
        module.eval(), Signature("classifier", (TensorSpec("x", "float32", ("batch",)),), ("logits",))
    ), batches


@pytest.mark.parametrize("options", [{"sparsity": 0.7, "scope": "global"}, {"pattern": "2:4"}], ids=["global", "2:4"])
def test_recovery_leaves_the_zeros_zero(apply: Any, options: dict[str, Any]) -> None:
    """Taught again, all weights that were pruned are still exactly zero, others have moved, and the answers are nearer."""
    import torch

    model, batches = learner()
    pruned, taught = (
        apply(model, "magnitude-pruning", batches, learning_rate=1e-2, recover_steps=steps, **options)
        for steps in (0, 40)
    )
    for before, after in zip(*map(weight_matrices, (pruned.model.module, taught.model.module)), strict=True):
        assert torch.equal(before.weight == 0, after.weight == 0)
        assert not torch.equal(before.weight, after.weight)
    assert taught.details["sparsity"] == pruned.details["sparsity"]
    assert taught.details["recovery_steps"] == 40
    before, after = taught.details["held_out_losses"]
    assert after < 0.7 * before
    given = torch.from_numpy(batches[0]["x"])
    loss = taught.model.module(given).square().sum()
    loss.backward()
    assert bool((taught.model.module[0].weight.grad[taught.model.module[0].weight == 0] != 0).any())


def test_recovery_without_calibration_data_is_a_config_error(apply: Any) -> None:
    """Recovery says that it needs calibration data."""
    with pytest.raises(
        ConfigError, match=r"magnitude-pruning, as it is configured here, learns from calibration data: set"
    ):
        apply(learner()[0], "magnitude-pruning", recover_steps=5)


def test_what_cannot_be_pruned_is_refused(onnx_model: Get, apply: Any) -> None:
    """An ONNX graph, and a module without such layers, are refused with the reason."""
    import torch

    with pytest.raises(BuildError, match="magnitude-pruning prunes torch modules, not ONNX graphs"):
        apply(onnx_model("mlp"), "magnitude-pruning")
    with pytest.raises(
        BuildError, match="magnitude-pruning found no linear, convolution, attention or recurrent layer"
    ):
        apply(TorchModel(torch.nn.Embedding(3, 3), Signature("classifier", (), ("logits",))), "magnitude-pruning")
    computed = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(6, 5))
    words = r"found no weight to prune: each of 1 \(weight, \.\.\.\) is no parameter of its layer: .*; make them parameters first"
    with pytest.raises(BuildError, match=words):
        apply(TorchModel(computed, Signature("classifier", (), ("logits",))), "magnitude-pruning")
    module = torch.nn.Sequential(torch.nn.Linear(6, 5))
    with pytest.raises(
        BuildError, match=r"2:4 found no weight whose inputs are a multiple of four among 1; take pattern"
    ):
        apply(TorchModel(module, Signature("classifier", (), ("logits",))), "magnitude-pruning", pattern="2:4")
