"""Export a torch module to one ONNX file with free batch (and sequence) dimensions.

Opset 20: newer ones emit the Attention operator, which ONNX Runtime's dynamic quantization, left to itself, takes for another
of the same name and makes an invalid graph of. Decoders have it nevertheless (onnx_decoder.py): with a cache it gains.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .batches import holds_tokens
from .errors import BuildError, first_line
from .files import replacing
from .loading import takes_by_name
from .model import Batch, OnnxModel, Signature, TorchModel
from .onnx_decoder import FUSED_OPSET, Free, example_of, fused_decoder, plain_decoder, present_names
from .onnx_files import nodes_of, read_signature
from .onnx_folding import fold_weights
from .onnx_layers import name_by_modules
from .onnx_reshapes import drop_reshapes
from .quiet import quiet

OPSET = 20
# Sizes of the traced example: all different and above 1, or the exporter ties dimensions together or fixes them.
_BATCH = 2
_LENGTH = 7

Exporter = Literal["dynamo", "legacy"]
"""torch's present exporter, or the deprecated one that traces."""


@dataclass(frozen=True)
class _Example:
    """What the exporter traces: tensors by input name, the free axes of each, and the names of the outputs."""

    tensors: dict[str, Any]
    free: dict[str, Free]
    outputs: tuple[str, ...]
    opset: int = OPSET


_Run = Callable[[Any, _Example, Path], None]
"""(module, example, path) -> None: one of torch's exporters writes the module."""


def export(model: TorchModel, probes: tuple[Batch, ...], path: Path, exporter: Exporter = "dynamo") -> OnnxModel:
    """Export a classifier or a decoder to `path`; the caller checks it against the module.

    A classifier's inputs are those of `probes`. A decoder's graph serves prefill and decode: inputs input_ids,
    attention_mask, position_ids, logits_to_keep (which of the new positions are to be scored) and past_key_values.N.key/value,
    outputs logits and present.N.key/value.

    Raises:
        BuildError: the exporter cannot trace or write the module; the text holds its first line.
    """
    if model.signature.kind == "decoder":
        return _export_decoder(model, path, exporter)
    if not probes:
        raise BuildError("a module is exported by tracing real inputs; give at least one probe")
    with _written_out_attention(model.module):
        return _export_classifier(model, probes[0], path, _EXPORTERS[exporter])


def _export_classifier(model: TorchModel, probe: Batch, path: Path, run: _Run) -> OnnxModel:
    if not _takes_tokens(model, probe):
        _written(model.module, _example(probe, None), path, run)
    else:
        try:
            _written(model.module, _example(probe, _LENGTH), path, run)
        except BuildError as free_length:
            _export_fixed_length(model, probe, path, run, free_length)
    return OnnxModel(path, replace(_finish(path), kind=model.signature.kind))


def _export_fixed_length(model: TorchModel, probe: Batch, path: Path, run: _Run, free_length: BuildError) -> None:
    """Export a model of tokens that is built for one length only (a linear layer over all positions, say)."""
    try:
        _written(model.module, _example(probe, None), path, run)
    except BuildError:
        raise free_length from None


def _takes_tokens(model: TorchModel, probe: Batch) -> bool:
    """Whether the inputs are token ids of free length: integers of rank two, of a text model where that is known."""
    if model.source is not None and model.source.task != "text-classification":
        return False
    return holds_tokens(probe)


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


def _export_decoder(model: TorchModel, path: Path, exporter: Exporter) -> OnnxModel:
    """Export with an operator for attention where exporter and model allow it, which saves a third of the nodes."""
    cache = model.signature.cache
    if cache is None:
        raise BuildError("a decoder whose cache is not described cannot be exported")
    tensors, free = example_of(model.module, cache)
    example = _Example(tensors, free, ("logits", *present_names(cache.layers)))
    with _written_out_attention(model.module):
        if exporter == "legacy" or not _export_fused(model.module, replace(example, opset=FUSED_OPSET), path):
            _written(plain_decoder(model.module), example, path, _EXPORTERS[exporter])
    _finish(path, drop_reshapes)
    return OnnxModel(path, model.signature)


def _export_fused(module: Any, example: _Example, path: Path) -> bool:
    """Whether the module could be exported with attention as one operator."""
    with fused_decoder(module) as fused:
        try:
            _written(fused, example, path, _run_dynamo)
        except BuildError:
            return False
    return True


def _written(module: Any, example: _Example, path: Path, run: _Run) -> None:
    """Run one of torch's exporters without its progress lines; its own deprecations are not about our call."""
    with replacing(path) as partial, quiet():
        try:
            run(module, example, partial)
        except Exception as error:
            raise BuildError(f"the export to ONNX failed: {first_line(error.__cause__ or error)}") from error


def _run_dynamo(module: Any, example: _Example, path: Path) -> None:
    import torch

    _forget_patched_operators()
    args, kwargs, shapes = _arguments(module, example)
    torch.onnx.export(
        module,
        args,
        str(path),
        kwargs=kwargs,
        input_names=list(example.tensors),
        output_names=list(example.outputs),
        opset_version=example.opset,
        dynamo=True,
        dynamic_shapes=shapes,
        external_data=False,
        verbose=False,
    )


def _run_legacy(module: Any, example: _Example, path: Path) -> None:
    """Trace the module; inputs are named in the order in which forward takes them."""
    import torch

    args, kwargs, _ = _arguments(module, example)
    order = list(inspect.signature(module.forward).parameters)
    torch.onnx.export(
        module,
        args,
        str(path),
        kwargs=kwargs,
        input_names=sorted(kwargs, key=order.index) or list(example.tensors),
        output_names=list(example.outputs),
        opset_version=example.opset,
        dynamo=False,
        dynamic_axes=example.free,
    )


_EXPORTERS: dict[Exporter, _Run] = {"dynamo": _run_dynamo, "legacy": _run_legacy}


@contextlib.contextmanager
def _written_out_attention(module: Any) -> Iterator[None]:
    """Let a transformers model compute attention by plain products.

    The present exporter writes torch's fused attention out with a guard against rows that are masked as a whole, which costs
    time in every layer; the legacy one does not know it.
    """
    configs = [
        part.config for part in module.modules() if hasattr(getattr(part, "config", None), "_attn_implementation")
    ]
    before = [config._attn_implementation for config in configs]  # noqa: SLF001 - its setter checks and warns, and must not
    for config in configs:
        config._attn_implementation = "eager"  # noqa: SLF001
    try:
        yield
    finally:
        for config, implementation in zip(configs, before, strict=True):
            config._attn_implementation = implementation  # noqa: SLF001


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


def _finish(path: Path, change: Callable[[Any], None] | None = None) -> Signature:
    """Make the file fit for quantization, free of traces of this machine, and read its signature.

    Quantization trips over shape notes that name weights; stack traces name source files and swell a small file. Layers
    are named by their modules before the exporter's notes go; then comes the `change`, if any.
    """
    import onnx

    with quiet():
        model = fold_weights(onnx.load(str(path)), transposes=False)
    name_by_modules(model, wrapper="inner")
    if change:
        change(model)
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
