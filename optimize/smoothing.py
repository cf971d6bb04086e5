"""Norms whose channel scales can move into the linear layers that read them: found by watching one call of the module."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from .pruning_layers import Layer, is_convolution, layer_of

_SAME = 1e-5
"""With twice its parameters, a norm's output may differ by this share of its largest number from twice the output."""


@dataclass(frozen=True)
class Pair:
    """A norm, by its dotted name, and the linear layers that read its output; nothing else does."""

    norm: str
    readers: tuple[Layer, ...]


def find_pairs(module: Any, run: Callable[[], object]) -> tuple[Pair, ...]:
    """The norms whose whole output goes into linear layers, each read and reading once in a call.

    A norm whose output is also added to something, looked into or given back, as in models that normalize after the residual
    sum, is none of them; nor is one that shares a parameter, or whose reader does.

    Args:
        module: a torch module in evaluation mode.
        run: calls it once.
    """
    watch = _Watch()
    with watch.watching(module):
        given_back = run()
    returned = {id(tensor) for tensor in _tensors(given_back)}
    places = Counter(id(parameter) for _, parameter in module.named_parameters(remove_duplicate=False))
    single = {
        name
        for name, part in module.named_modules()
        if watch.calls[name] == 1 and all(places[id(parameter)] == 1 for parameter in part.parameters())
    }
    layers = {name: layer for name, layer in _layers(module).items() if name in single}
    return tuple(
        Pair(name, tuple(layers[reader] for reader in seen.readers))
        for name, seen in watch.norms.items()
        if name in single
        and seen.readers
        and layers.keys() >= set(seen.readers)
        and id(seen.output) not in returned
        and _scales_with_weight(module.get_submodule(name), seen)
    )


def fold(module: Any, pair: Pair, scales: Any) -> None:
    """Divide the norm's output channels by `scales`, shape (channels,), and multiply what its readers read by them, in place."""
    import torch

    norm = module.get_submodule(pair.norm)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.div_(scales)
        for reader in pair.readers:
            weight = module.get_submodule(reader.name).weight
            weight.mul_(scales if reader.output_axis == 0 else scales[:, None])


@contextmanager
def peaks(module: Any, pairs: tuple[Pair, ...]) -> Iterator[dict[str, Any]]:
    """Give the largest magnitude of each channel of each norm's output, by the norm's name, over all calls in the block."""
    import torch

    found: dict[str, Any] = {}

    def hook(name: str) -> Callable[[Any, Any, Any], None]:
        def note(_: Any, __: Any, output: Any) -> None:
            peak = output.detach().abs().flatten(0, -2).amax(dim=0)
            found[name] = torch.maximum(found[name], peak) if name in found else peak

        return note

    with ExitStack() as hooks:
        for pair in pairs:
            hooks.enter_context(module.get_submodule(pair.norm).register_forward_hook(hook(pair.norm)))
        yield found


def reading_peaks(module: Any, pair: Pair) -> Any:
    """The largest magnitude of the weights by which the readers read each channel, shape (channels,)."""
    import torch

    weights = [(module.get_submodule(reader.name).weight.detach(), reader.output_axis) for reader in pair.readers]
    return torch.stack([weight.abs().amax(dim=axis) for weight, axis in weights]).amax(dim=0)


def _layers(module: Any) -> dict[str, Layer]:
    found = {name: layer_of(name, part) for name, part in module.named_modules() if not is_convolution(part)}
    return {name: layer for name, layer in found.items() if layer is not None}


@dataclass
class _Seen:
    """What one norm was given and gave, kept alive so that no other tensor takes its place, and the modules that read it."""

    given: Any
    output: Any
    readers: list[str] = field(default_factory=list)


class _Watch:
    """Which module reads which norm's output: hooks tell what runs, torch's function mode what it reads."""

    def __init__(self) -> None:
        self.norms: dict[str, _Seen] = {}
        self.calls: Counter[str] = Counter()
        self._sources: dict[int, str] = {}
        self._running: list[str] = []

    @contextmanager
    def watching(self, module: Any) -> Iterator[None]:
        with ExitStack() as stack:
            for name, part in module.named_modules():
                stack.enter_context(part.register_forward_pre_hook(self._entering(name)))
                stack.enter_context(part.register_forward_hook(self._leaving(name)))
            stack.enter_context(_reading(self._read))
            yield

    def _entering(self, name: str) -> Callable[[Any, Any], None]:
        def enter(_: Any, __: Any) -> None:
            self._running.append(name)
            self.calls[name] += 1

        return enter

    def _leaving(self, name: str) -> Callable[[Any, Any, Any], None]:
        def leave(part: Any, given: Any, output: Any) -> None:
            self._running.pop()
            if _is_norm(part) and given:
                self.norms[name] = _Seen(given[0], output)
                self._sources[id(output)] = name

        return leave

    def _read(self, tensors: list[Any]) -> None:
        """Note the reader of each norm's output among the tensors; a linear layer looks at its input more than once."""
        for norm in (self._sources[id(tensor)] for tensor in tensors if id(tensor) in self._sources):
            reader = self._running[-1] if self._running else ""
            if reader not in self.norms[norm].readers:
                self.norms[norm].readers.append(reader)


@contextmanager
def _reading(read: Callable[[list[Any]], None]) -> Iterator[None]:
    """Tell `read` the tensors that go into each call of torch that gives a tensor; sizes and types are no reading."""
    import torch

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if next(_tensors(result), None) is not None:
                read(list(_tensors((args, kwargs or {}))))
            return result

    with Mode():
        yield


def _tensors(value: Any) -> Iterator[Any]:
    """The tensors in nested tuples, lists and mappings."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _tensors(each)


def _is_norm(part: Any) -> bool:
    """Whether it is named a layer or RMS norm and has a weight for each channel, and perhaps a bias, and nothing else."""
    parameters = dict(part.named_parameters())
    shapes = {tuple(parameter.shape) for parameter in parameters.values()}
    named = type(part).__name__.endswith(("LayerNorm", "RMSNorm"))
    return named and set(parameters) in ({"weight"}, {"weight", "bias"}) and len(shapes) == 1 and len(shapes.pop()) == 1


def _scales_with_weight(norm: Any, seen: _Seen) -> bool:
    """Whether twice the parameters give twice the output, as they do not where a norm multiplies by 1 + weight."""
    import torch

    doubled = {name: 2 * parameter.detach() for name, parameter in norm.named_parameters()}
    with torch.no_grad():
        output = torch.func.functional_call(norm, doubled, (seen.given,))
    return bool((output - 2 * seen.output).abs().max() <= _SAME * seen.output.abs().max())
