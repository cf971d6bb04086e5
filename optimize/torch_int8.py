"""Layers of a torch module that multiply 8-bit weights: found, saved as plain integers and scales, and made again from them.

Torch's own form packs a weight for the engine of the processor at hand (FBGEMM or oneDNN on x86, QNNPACK on ARM), which cannot be
written to a file of tensors; so the integers are saved, and packed anew wherever they are opened.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import InputError, UnavailableError
from .int8_plan import SCALE, Int8Plan, read_int8_plan
from .quiet import quiet
from .torch_layers import call_every_layer, put

Tensors = dict[str, Any]
Places = Mapping[str, Any]
"""The float layers of an architecture, by name, that integers are put in the place of."""


def int8_layers(module: Any) -> dict[str, Any]:
    """The layers of a module that multiply 8-bit weights, by their dotted names."""
    named = module.named_modules(remove_duplicate=False)
    return {name: layer for name, layer in named if name and is_int8(layer)}


def is_int8(layer: Any) -> bool:
    """Whether a module is a linear or recurrent layer of torch's dynamic quantization, or a linear one of torchao's."""
    dynamic = _dynamic()
    return isinstance(layer, dynamic.Linear | dynamic.LSTM | dynamic.GRU) or _is_torchao(layer)


def kind_of(layer: Any) -> str:
    """What an audit calls such a layer."""
    if _is_torchao(layer):
        return f"Linear of {type(layer.weight).__name__}"
    return str(layer._get_name())  # noqa: SLF001 - torch has no public word for it


def _dynamic() -> Any:
    """The layers of torch's dynamic quantization."""
    from torch.ao.nn.quantized import dynamic

    return dynamic


def _is_torchao(layer: Any) -> bool:
    """Whether its weight is a tensor of torchao's, which holds integers and scales."""
    import torch

    return isinstance(layer, torch.nn.Linear) and hasattr(layer.weight, "qdata")


def need_engine() -> None:
    """See to it that torch has an engine for products of 8-bit numbers; where it chose none itself, take one that it has.

    Raises:
        UnavailableError: this build of torch has none.
    """
    import torch

    engines = torch.backends.quantized
    if engines.engine != "none":
        return
    usable = [name for name in engines.supported_engines if name != "none"]
    if not usable:
        raise UnavailableError(
            "this build of torch has no engine for products of 8-bit numbers. To make one available: pip install torch, "
            "whose builds for x86 and ARM have one"
        )
    engines.engine = usable[0]


def with_integers_bare(module: Any) -> Any:
    """A copy in which each 8-bit layer is a bare module whose buffers, shared with no other, are its integers, scales and biases."""
    bare = copy.deepcopy(module)
    for name, layer in int8_layers(bare).items():
        put(bare, name, _bare({key: tensor.detach().clone() for key, tensor in _tensors_of(layer).items()}))
    return bare


def hold_places(module: Any, folder: Path, saved: Mapping[str, Any]) -> Places:
    """Put bare modules, as large as the saved tensors, in the places of a folder's 8-bit layers; the float layers are given back.

    Raises:
        InputError: the plan is damaged, or names a layer that the architecture or the file does not have.
    """
    plan = read_int8_plan(folder)
    places = {}
    for name in plan.layers if plan else ():
        tensors = {key.removeprefix(f"{name}."): value for key, value in saved.items() if key.startswith(f"{name}.")}
        try:
            places[name] = module.get_submodule(name)
        except AttributeError as error:
            raise _misfit(folder, name, "the architecture has no such layer") from error
        if not any(key.endswith(SCALE) for key in tensors):
            raise _misfit(folder, name, "the file holds no integers of it")
        put(module, name, _bare(tensors))
    return places


def make_int8(module: Any, folder: Path, places: Places) -> None:
    """Turn the filled bare modules into layers that multiply their integers.

    Raises:
        InputError: a layer is of a kind that has no such form, or its integers do not fit together.
        UnavailableError: torchao is not installed, or torch has no engine for 8-bit products.
    """
    plan = read_int8_plan(folder)
    if plan is None:
        return
    for name, like in places.items():
        tensors = dict(module.get_submodule(name).named_buffers())
        try:
            put(module, name, _layer(plan, like, tensors))
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise _misfit(folder, name, " ".join(str(error).split())[:200]) from error
    call_every_layer(module)


def _misfit(folder: Path, name: str, why: str) -> InputError:
    return InputError(f"the INT8 layer {name} of {folder} cannot be made again: {why}; build the variant again")


def _bare(tensors: Tensors) -> Any:
    import torch

    bare = torch.nn.Module()
    for name, tensor in tensors.items():
        bare.register_buffer(name, tensor)
    return bare


def _tensors_of(layer: Any) -> Tensors:
    """Integers, scales and biases of a layer, by the names that the plan's file has for them."""
    dynamic = _dynamic()
    if isinstance(layer, dynamic.Linear):
        weights, biases = {"weight": layer.weight()}, {"bias": layer.bias()}
    elif isinstance(layer, dynamic.LSTM | dynamic.GRU):
        weights, biases = layer.get_weight(), layer.get_bias()
    else:
        bias = {} if layer.bias is None else {"bias": layer.bias}
        return {"weight": layer.weight.qdata, f"weight{SCALE}": layer.weight.scale.flatten(), **bias}
    tensors = {name: bias for name, bias in biases.items() if bias is not None}
    for name, weight in weights.items():
        tensors[name] = weight.int_repr()
        tensors[f"{name}{SCALE}"] = weight.q_per_channel_scales().float()
    return tensors


def _layer(plan: Int8Plan, like: Any, tensors: Tensors) -> Any:
    if plan.scheme == "torchao":
        from .torchao_layers import made_of_integers

        return made_of_integers(tensors["weight"], tensors[f"weight{SCALE}"], tensors.get("bias"), plan)
    need_engine()
    with quiet():
        return _dynamic_layer(like, tensors)


def _dynamic_layer(like: Any, tensors: Tensors) -> Any:
    """A layer of torch's dynamic quantization with the sizes of a float one."""
    import torch

    dynamic = _dynamic()
    scales = {name for name in tensors if name.endswith(SCALE)}
    weights = {name.removesuffix(SCALE) for name in scales}
    biases = {name: tensor for name, tensor in tensors.items() if name not in scales | weights}
    quantized = {name: _quantized(tensors[name], tensors[f"{name}{SCALE}"]) for name in weights}
    if not isinstance(like, torch.nn.RNNBase):
        outputs, inputs = quantized["weight"].shape
        linear = dynamic.Linear(inputs, outputs)
        linear.set_weight_bias(quantized["weight"], biases.get("bias"))
        return linear.eval()
    made = dynamic.LSTM if isinstance(like, torch.nn.LSTM) else dynamic.GRU
    sizes = (like.input_size, like.hidden_size, like.num_layers)
    recurrent = made(*sizes, like.bias, like.batch_first, like.dropout, like.bidirectional)
    recurrent.set_weight_bias({**quantized, **biases})
    return recurrent.eval()


def _quantized(integers: Any, scales: Any) -> Any:
    import torch

    if integers.dtype != torch.int8 or scales.shape != integers.shape[:1]:
        raise ValueError(f"{integers.dtype} integers of shape {tuple(integers.shape)} with {scales.numel()} scales")
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    return torch._make_per_channel_quantized_tensor(integers, scales.double(), zeros, 0)  # noqa: SLF001 - torch's own quantizer makes it by no other
