"""What a caller may give as the model: a source, a reference in words, or a torch module in memory."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .backends.torch_backend import open_in_memory
from .errors import InputError
from .factory import is_built
from .loading import add_module, describe, load, transformers_config
from .model import Batch, Model, Signature, TensorSpec, TorchModel
from .parity import outputs_of
from .source import Source, SourceKind, Task


@dataclass(frozen=True)
class Origin:
    """Where a build starts: the source's description, and how to have the model itself."""

    source: Source
    load: Callable[[], Model]


def origin_of(model: Any, task: Task | None, probes: Sequence[Batch]) -> Origin:
    """Describe what was given as the model.

    A module in memory is told from others by its weights and its answers to the probes. It can become an artifact of
    every backend that keeps the architecture in the file; PyTorch's own needs a factory to open it again.

    Raises:
        InputError: it is no model, is missing, or there are no probes.
    """
    if not probes:
        raise InputError("a build checks every step on real inputs; give at least one batch as Examples.probes")
    if isinstance(model, Source):
        return Origin(model, lambda: load(model))
    if isinstance(model, str | Path):
        kind = _kind_of(str(model))
        source = describe(kind, str(model), task or task_of(kind, str(model), probes[0]))
        return Origin(source, lambda: load(source))
    return _in_memory(model, task or _task_of_inputs(probes[0]), probes)


def _kind_of(reference: str) -> SourceKind:
    if reference.endswith(".onnx"):
        return "onnx"
    if reference.endswith(".fake.json"):
        return "fake"
    if is_built(reference):
        return "module"
    return "module" if ":" in reference and not Path(reference).exists() else "transformers"


def task_of(kind: SourceKind, reference: str, probe: Batch) -> Task:
    """What a model is for, from its transformers config, else from its inputs."""
    if kind != "transformers":
        return _task_of_inputs(probe)
    architectures = " ".join(transformers_config(reference).architectures or ())
    return "text-generation" if "CausalLM" in architectures or "LMHeadModel" in architectures else "text-classification"


def _task_of_inputs(probe: Batch) -> Task:
    """Whole numbers are tokens, batches of grids are images, all else are rows of a table."""
    if all(np.issubdtype(array.dtype, np.integer) for array in probe.values()):
        return "text-classification"
    image = next(iter(probe.values())).ndim == 4  # noqa: PLR2004 - batch, channels, height, width
    return "image-classification" if image else "tabular-classification"


def _in_memory(module: Any, task: Task, probes: Sequence[Batch]) -> Origin:
    import torch

    if not isinstance(module, torch.nn.Module):
        raise InputError(
            f"the model is a {type(module).__name__}; give a torch.nn.Module, a transformers folder or hub id, "
            "an .onnx file, or package.module:factory"
        )
    inputs = tuple(TensorSpec(name, array.dtype.name, ("batch",)) for name, array in probes[0].items())
    model = TorchModel(module.eval(), Signature("classifier", inputs, ("logits",)))
    digest = hashlib.sha256()
    add_module(digest, module)
    for scores in outputs_of(open_in_memory(model), model.signature, probes):
        digest.update(scores.tobytes())
    return Origin(Source("module", f"in memory: {type(module).__name__}", task, digest.hexdigest()), lambda: model)
