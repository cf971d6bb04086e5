"""2:4 sparsity on NVIDIA's sparse tensor cores: linear layers of a module that were pruned so are multiplied so.

The layout is torch's own (`torch.sparse.to_sparse_semi_structured`), which wants half precision and weights whose sizes are multiples of
those below. On a CPU there is no such arithmetic: there the zeros are multiplied like other numbers.
"""

from collections.abc import Iterator
from typing import Any

_RUN = 4
_ROWS, _COLUMNS = 32, 64
"""The outputs and inputs of a weight must be multiples of these, for torch's kernels in half precision."""


def semi_structured_layers(module: Any) -> Iterator[tuple[str, Any]]:
    """The linear layers in FP16 or BF16 in which of every four consecutive inputs two weights at least are zero."""
    import torch

    for name, layer in module.named_modules():
        if not isinstance(layer, torch.nn.Linear) or layer.weight.dtype not in (torch.float16, torch.bfloat16):
            continue
        outputs, inputs = layer.weight.shape
        if outputs % _ROWS or inputs % _COLUMNS:
            continue
        zeros = (layer.weight.detach().view(outputs, inputs // _RUN, _RUN) == 0).sum(dim=2)
        if bool((zeros >= _RUN // 2).all()):
            yield name, layer


def use_sparse_tensor_cores(module: Any) -> tuple[str, ...]:
    """Lay those layers of a module on a CUDA device out for sparse tensor cores, in place; returns their names."""
    import torch

    found = tuple(semi_structured_layers(module))
    for _, layer in found:
        sparse = torch.sparse.to_sparse_semi_structured(layer.weight.detach())
        layer.weight = torch.nn.Parameter(sparse, requires_grad=False)
    return tuple(name for name, _ in found)
