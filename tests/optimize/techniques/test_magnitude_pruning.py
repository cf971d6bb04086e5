"""Magnitude pruning zeroes the smallest weights, as many as asked for, and nothing else."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weighbridge.optimize.errors import BuildError
from weighbridge.optimize.model import Examples, Signature, TorchModel
from weighbridge.optimize.recipe import step_from_dict
from weighbridge.optimize.techniques import technique
from weighbridge.optimize.techniques.magnitude_pruning import prunable

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
        scope: [int((w == 0).sum()) for w in prunable(apply(model, "magnitude-pruning", scope=scope).model.module)]
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
    result = technique("magnitude-pruning").apply(model, step, Examples(()), None)  # type: ignore[arg-type]
    assert result.details["sparsity"] == pytest.approx(round(share * 35) / 35)
    assert int((result.model.module[0].weight == 0).sum()) == round(share * 35)  # type: ignore[union-attr]


def test_attention_weights_are_pruned_too(apply: Any) -> None:
    """The joined projection of torch's attention is a weight matrix like others."""
    import torch

    module = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    result = apply(TorchModel(module, Signature("classifier", (), ("logits",))), "magnitude-pruning", sparsity=0.25)
    assert result.details["weight_matrices"] == 4
    assert int((result.model.module.self_attn.in_proj_weight == 0).sum()) == 8 * 24 // 4


def test_what_cannot_be_pruned_is_refused(onnx_model: Get, apply: Any) -> None:
    """An ONNX graph, and a module without such layers, are refused with the reason."""
    import torch

    with pytest.raises(BuildError, match="magnitude-pruning prunes torch modules, not ONNX graphs"):
        apply(onnx_model("mlp"), "magnitude-pruning")
    with pytest.raises(
        BuildError, match="magnitude-pruning found no linear, convolution, attention or recurrent layer"
    ):
        apply(TorchModel(torch.nn.Embedding(3, 3), Signature("classifier", (), ("logits",))), "magnitude-pruning")
