"""Export a torch module to one ONNX file with free batch (and sequence) dimensions.

Opset 20: newer ones emit the Attention operator, of which ONNX Runtime's dynamic quantization makes an invalid graph.
"""

import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .errors import BuildError, first_line
from .files import replacing
from .loading import takes_by_name
from .model import Batch, CacheSpec, OnnxModel, Signature, TorchModel
from .onnx_files import nodes_of, read_signature
from .onnx_folding import fold_weights
from .quiet import quiet

OPSET = 20
# Sizes of the traced example: all different and above 1, or the exporter ties dimensions together or fixes them.
_BATCH = 2
_LENGTH = 7
_PAST = 5

Free = dict[int, str]
"""The free axes of one input, by name."""


@dataclass(frozen=True)
class _Example:
    """What the exporter traces: tensors by input name, the free axes of each, and the names of the outputs."""

    tensors: dict[str, Any]
    free: dict[str, Free]
    outputs: tuple[str, ...]


def export(model: TorchModel, probes: tuple[Batch, ...], path: Path) -> OnnxModel:
    """Export a classifier or a decoder to `path`; the caller checks it against the module.

    A classifier's inputs are those of `probes`. A decoder's graph serves prefill and decode: inputs input_ids,
    attention_mask, position_ids and past_key_values.N.key/value, outputs logits and present.N.key/value.

    Raises:
        BuildError: the exporter cannot trace or write the module; the text holds its first line.
    """
    if model.signature.kind == "decoder":
        return _export_decoder(model, path)
    if not probes:
        raise BuildError("a module is exported by tracing real inputs; give at least one probe")
    return _export_classifier(model, probes[0], path)


def _export_classifier(model: TorchModel, probe: Batch, path: Path) -> OnnxModel:
    if not _takes_tokens(model, probe):
        _run_exporter(model.module, _example(probe, None), path)
    else:
        try:
            _run_exporter(model.module, _example(probe, _LENGTH), path)
        except BuildError as free_length:
            _export_fixed_length(model, probe, path, free_length)
    return OnnxModel(path, replace(_finish(path), kind=model.signature.kind))


def _export_fixed_length(model: TorchModel, probe: Batch, path: Path, free_length: BuildError) -> None:
    """Export a model of tokens that is built for one length only (a linear layer over all positions, say)."""
    try:
        _run_exporter(model.module, _example(probe, None), path)
    except BuildError:
        raise free_length from None


def _takes_tokens(model: TorchModel, probe: Batch) -> bool:
    """Whether the inputs are token ids of free length: integers of rank two, of a text model where that is known."""
    if model.source is not None and model.source.task != "text-classification":
        return False
    return all(array.ndim == 2 and array.dtype.kind in "iu" for array in probe.values())  # noqa: PLR2004 - batch, sequence


def _example(probe: Batch, length: int | None) -> _Example:
    """Two real rows, cut or repeated to `length` tokens; None keeps their own shape and frees the batch alone.

    The second row of an attention mask ends in padding: of a mask of ones the exporter would make a constant.
    """
    import torch

    tail = {name: (length,) if length else array.shape[1:] for name, array in probe.items()}
    arrays = {name: np.resize(array, (_BATCH, *tail[name])) for name, array in probe.items()}
    if "attention_mask" in arrays:
        arrays["attention_mask"] = np.ones_like(arrays["attention_mask"])
        arrays["attention_mask"][1, -2:] = 0
    free = {0: "batch", 1: "sequence"} if length else {0: "batch"}
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return _Example(tensors, {name: dict(free) for name in tensors}, ("logits",))


def _export_decoder(model: TorchModel, path: Path) -> OnnxModel:
    cache = model.signature.cache
    if cache is None:
        raise BuildError("a decoder whose cache is not described cannot be exported")
    _run_exporter(_flat_cache_module(model.module), _decoder_example(model.module, cache), path)
    _finish(path)
    return OnnxModel(path, model.signature)


def _decoder_example(module: Any, cache: CacheSpec) -> _Example:
    import torch

    mask = torch.ones(_BATCH, _PAST + _LENGTH, dtype=torch.int64)
    mask[1, :2] = 0
    dtype = next(module.parameters()).dtype
    shape = (_BATCH, cache.heads, _PAST, cache.head_size)
    past = {name: torch.zeros(shape, dtype=dtype) for name in past_names(cache.layers)}
    tensors = {
        "input_ids": torch.ones(_BATCH, _LENGTH, dtype=torch.int64),
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)[:, -_LENGTH:],
    }
    free: dict[str, Free] = {name: {0: "batch", 1: "sequence"} for name in tensors}
    free["attention_mask"] = {0: "batch", 1: "past_and_sequence"}
    free |= {name: {0: "batch", 2: "past"} for name in past}
    return _Example(tensors | past, free, ("logits", *present_names(cache.layers)))


def past_names(layers: int) -> list[str]:
    """Names of the cache's inputs, in order."""
    return [f"past_key_values.{layer}.{part}" for layer in range(layers) for part in ("key", "value")]


def present_names(layers: int) -> list[str]:
    """Names of the cache's outputs, in order."""
    return [f"present.{layer}.{part}" for layer in range(layers) for part in ("key", "value")]


def _flat_cache_module(module: Any) -> Any:
    """Wrap a causal language model so that its cache goes in and out as flat tensors."""
    import torch
    from transformers import DynamicCache

    class FlatCache(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any, *past: Any) -> tuple[Any, ...]:
            cache = DynamicCache()
            for layer in range(len(past) // 2):
                cache.update(past[2 * layer], past[2 * layer + 1], layer)
            answer = self.inner(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=True,
            )
            flat = [part for layer in answer.past_key_values.layers for part in (layer.keys, layer.values)]
            return (answer.logits, *flat)

    return FlatCache().eval()


def _run_exporter(module: Any, example: _Example, path: Path) -> None:
    """Run torch's exporter without its progress lines; its own deprecations are not about our call."""
    import torch

    _forget_patched_operators()
    args, kwargs, shapes = _arguments(module, example)
    with replacing(path) as partial, quiet():
        try:
            torch.onnx.export(
                module,
                args,
                str(partial),
                kwargs=kwargs,
                input_names=list(example.tensors),
                output_names=list(example.outputs),
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=shapes,
                external_data=False,
                verbose=False,
            )
        except Exception as error:
            raise BuildError(f"the export to ONNX failed: {first_line(error.__cause__ or error)}") from error


def _forget_patched_operators() -> None:
    """Clear what the exporter leaves behind of its patch of the recurrent operators.

    Otherwise the second export of an LSTM or GRU in a process fixes the sequence length (torch 2.13).
    """
    import torch

    for operator in (torch.ops.aten.lstm.input, torch.ops.aten.gru.input):
        operator._dispatch_cache.clear()  # noqa: SLF001 - torch has no public way, and only its patch needs it


def _arguments(module: Any, example: _Example) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """The example as forward takes it, with the free axes nested alike: by name, or in order."""
    if takes_by_name(module, tuple(example.tensors)):
        return (), example.tensors, example.free
    kinds = [each.kind for each in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return tuple(example.tensors.values()), {}, tuple(example.free.values())
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    free = list(example.free.values())
    return tuple(example.tensors.values()), {}, (*free[:named], tuple(free[named:]))


def _finish(path: Path) -> Signature:
    """Make the file fit for quantization, free of traces of this machine, and read its signature.

    Quantization trips over shape notes that name weights; stack traces name source files and swell a small file.
    """
    import onnx

    with quiet():
        model = fold_weights(onnx.load(str(path)), transposes=False)
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.value_info if value.name not in weights]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    for part in (*nodes_of(model), *model.graph.initializer, *model.graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""
    with replacing(path) as partial:
        onnx.save(model, str(partial))
    return read_signature(model)
