"""2:4 sparsity for sparse tensor cores: which layers fit it."""

from typing import Any

import numpy as np
import pytest
from weighbridge.optimize.semi_structured import semi_structured_layers, use_sparse_tensor_cores


def linear(outputs: int, inputs: int, dtype: str = "float16", *, pruned: bool = True) -> Any:
    """A linear layer, of each four inputs the first two zero where it is pruned."""
    import torch

    layer = torch.nn.Linear(inputs, outputs).to(getattr(torch, dtype))
    if pruned:
        with torch.no_grad():
            layer.weight.view(outputs, inputs // 4, 4)[:, :, :2] = 0
    return layer


def test_only_layers_that_sparse_tensor_cores_take_are_found() -> None:
    """Half precision, sizes that are multiples of 32 and 64, and two zeros in every four inputs: all three are needed."""
    import torch

    module = torch.nn.ModuleDict(
        {
            "fits": linear(32, 64),
            "fits-bf16": linear(64, 128, "bfloat16"),
            "fp32": linear(32, 64, "float32"),
            "dense": linear(32, 64, pruned=False),
            "odd-outputs": linear(16, 64),
            "odd-inputs": linear(32, 32),
        }
    )
    with torch.no_grad():
        module["one-run-too-dense"] = linear(32, 64)
        module["one-run-too-dense"].weight[5, 8:12] = 1
    assert [name for name, _ in semi_structured_layers(module)] == ["fits", "fits-bf16"]


def test_the_pruning_step_leaves_layers_that_are_found() -> None:
    """What magnitude-pruning 2:4 leaves, in FP16, is what is looked for."""
    import torch
    from weighbridge.optimize.techniques.magnitude_pruning import MagnitudePruning, _zeroed, weight_matrices

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 8))
    _zeroed(tuple(weight_matrices(module)), MagnitudePruning(pattern="2:4"))
    assert [name for name, _ in semi_structured_layers(module.half())] == ["0"]


def test_a_module_without_such_layers_stays_as_it_is() -> None:
    """Nothing is laid out anew where nothing fits, also on a CPU, which has no such arithmetic."""
    layer = linear(16, 64)
    before = layer.weight
    assert use_sparse_tensor_cores(layer) == ()
    assert layer.weight is before


@pytest.mark.gpu
def test_a_real_gpu_multiplies_them_sparsely() -> None:
    """On a GPU the answers of the sparse layer are those of the dense one."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    layer = linear(64, 128).to("cuda")
    inputs = torch.randn(48, 128, device="cuda", dtype=torch.float16)
    expected = layer(inputs).float().cpu().detach().numpy()
    assert use_sparse_tensor_cores(layer) == ("",)
    found = layer(inputs).float().cpu().detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-2)
