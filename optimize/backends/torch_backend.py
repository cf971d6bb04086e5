"""PyTorch, eager: the reference that most teams have. Artifacts are safetensors; nothing is unpickled."""

import importlib.util
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batches import need_inputs
from ..errors import BuildError, ConfigError, InputError, NotAvailableYetError, UnavailableError, first_line
from ..factory import fill, make_module
from ..files import write_json
from ..loading import pruned_module, takes_by_name
from ..model import Batch, Form, Model, Signature, TorchModel
from ..pruning_plan import PLAN, write_plan
from ..quiet import quiet
from ..recipe import StepConfig, step_from_dict
from ..source import Source
from .base import Audit, Availability, Decoder, Opened, OpenOptions, Predictor, sleep_until
from .notes import half_precision_note, joined, zeros_note

_WEIGHTS = "model.safetensors"
_ARCHITECTURE = "architecture.json"
_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}
_DEVICES = ("cpu", "cuda")

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Tensors as forward takes them: in order, or by name."""


class TorchPredictor:
    """A torch classifier on one device; outputs are finished when `infer` returns."""

    clock_ns: Callable[[], int] = staticmethod(time.perf_counter_ns)
    sleep_until: Callable[[int], None] = staticmethod(sleep_until)

    def __init__(self, module: Any, signature: Signature, device: str = "cpu") -> None:
        import torch

        self._torch = torch
        self._device = device
        self._module = module.eval().to(device)
        self._names = tuple(spec.name for spec in signature.inputs)
        self._by_name = takes_by_name(module, self._names)
        floats = (parameter.dtype for parameter in module.parameters() if parameter.is_floating_point())
        self._dtype = next(floats, torch.float32)

    def load(self, batch: Batch) -> Arguments:
        """Turn arrays into tensors on the device: floats in the module's own precision, integers as int64.

        Raises:
            InputError: the batch lacks one of the module's inputs.
        """
        need_inputs(batch, self._names)
        tensors = {name: self._tensor(batch[name]) for name in self._names}
        return ((), tensors) if self._by_name else (tuple(tensors.values()), {})

    def _tensor(self, array: NDArray[Any]) -> Any:
        tensor = self._torch.from_numpy(np.array(array))
        if tensor.is_floating_point():
            return tensor.to(self._device, self._dtype)
        return tensor.to(self._device, tensor.dtype if tensor.dtype is self._torch.bool else self._torch.int64)

    def infer(self, tensors: Arguments) -> Any:
        """Run the module once and wait for the device."""
        with self._torch.inference_mode():
            outputs = self._module(*tensors[0], **tensors[1])
        if self._device != "cpu":
            self._torch.cuda.synchronize()
        return outputs

    def arrays(self, outputs: Any) -> dict[str, NDArray[Any]]:
        """The class scores: `.logits` of a transformers output, else the first tensor.

        Raises:
            InputError: the module returned no tensor.
        """
        scores = getattr(outputs, "logits", outputs)
        if isinstance(scores, Mapping):
            scores = next(iter(scores.values()), None)
        elif isinstance(scores, tuple | list):
            scores = scores[0] if scores else None
        if not isinstance(scores, self._torch.Tensor):
            raise InputError(f"the module returned {type(outputs).__name__}; it must return a tensor of class scores")
        return {"logits": scores.float().cpu().numpy()}

    def close(self) -> None:
        """Drop the module."""
        del self._module


class TorchDecoder:
    """A transformers causal language model with its own dynamic cache, which each step extends in place."""

    clock_ns: Callable[[], int] = staticmethod(time.perf_counter_ns)

    def __init__(self, module: Any, device: str = "cpu") -> None:
        import torch

        self._torch = torch
        self._device = device
        self._module = module.eval().to(device)

    def step(
        self, ids: NDArray[np.int64], mask: NDArray[np.int64], past: Any | None
    ) -> tuple[NDArray[np.float32], Any]:
        """Feed new tokens; positions are counted from the mask, so left padding changes nothing."""
        torch = self._torch
        with torch.inference_mode():
            seen = torch.from_numpy(np.array(mask)).to(self._device)
            answer = self._module(
                input_ids=torch.from_numpy(np.array(ids)).to(self._device),
                attention_mask=seen,
                position_ids=(seen.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :],
                past_key_values=past,
                use_cache=True,
            )
            return answer.logits.float().cpu().numpy(), answer.past_key_values

    def close(self) -> None:
        """Drop the module."""
        del self._module


def open_in_memory(model: TorchModel) -> Predictor | Decoder:
    """Open a module that is in memory already, for checking it."""
    return _opened(model.module, model.signature, "cpu")


def _opened(module: Any, signature: Signature, device: str) -> Predictor | Decoder:
    if signature.kind == "decoder":
        return TorchDecoder(module, device)
    return TorchPredictor(module, signature, device)


class TorchBackend:
    """Eager PyTorch on the CPU or a CUDA device."""

    name = "torch"
    form: Form = "module"
    precisions = ("fp32", "fp16", "bf16", "int8")
    calibrated: tuple[str, ...] = ()

    def availability(self) -> Availability:
        """Usable where torch is installed."""
        if importlib.util.find_spec("torch") is None:
            return Availability(usable=False, reason="torch is not installed", remedy="pip install torch")
        return Availability(usable=True, version=metadata.version("torch"))

    def default_steps(self, precision: str, model: Model) -> tuple[StepConfig, ...]:
        """Half precision for fp16 and bf16; nothing for fp32.

        Raises:
            NotAvailableYetError: the precision is one that a later release builds.
        """
        del model
        if precision in ("fp16", "bf16"):
            return (step_from_dict({"use": "half-precision", "dtype": precision}),)
        if precision == "fp32":
            return ()
        raise NotAvailableYetError(f"torch {precision} is not available yet in this release; use onnxruntime int8")

    def build(self, model: Model, folder: Path) -> tuple[str, ...]:
        """Save a transformers folder, or the factory's reference and its weights; beside them the structural changes.

        A transformers folder's config stays that of the architecture before the changes, from which it is made again.

        Raises:
            ConfigError: the model is no torch module.
            BuildError: nothing says how the module's architecture can be made again.
        """
        if not isinstance(model, TorchModel):
            raise ConfigError("the torch backend needs a torch model; an .onnx file cannot be turned into one")
        if model.source is None:
            raise BuildError(
                "a module without a source cannot be opened again in another process; give package.module:factory"
            )
        if model.source.kind == "transformers":
            with quiet():
                model.module.save_pretrained(folder)
            if model.changes:
                write_plan(folder, model.changes)
            return (_WEIGHTS, *sorted(path.name for path in folder.iterdir() if path.name != _WEIGHTS))
        from safetensors.torch import save_model

        save_model(model.module, str(folder / _WEIGHTS))
        write_json(folder / _ARCHITECTURE, {"source": model.source.to_dict(), "changes": list(model.changes)})
        return (_WEIGHTS, _ARCHITECTURE)

    def open(self, folder: Path, files: tuple[str, ...], signature: Signature, options: OpenOptions) -> Opened:
        """Make the module again and load the saved weights into it.

        Raises:
            ConfigError: the device is none that torch is asked for here.
            UnavailableError: there is no CUDA device.
        """
        import torch

        device = options.provider or "cpu"
        if device not in _DEVICES:
            raise ConfigError(f"torch has no device '{device}' here. Allowed: {', '.join(_DEVICES)}")
        if device == "cuda" and not torch.cuda.is_available():
            raise UnavailableError('torch sees no CUDA device here; set device = "cpu" under [measure]')
        torch.set_num_threads(options.threads)
        return _opened(_made_again(folder, files), signature, device)

    def audit(self, folder: Path, files: tuple[str, ...], precision: str) -> Audit:
        """Count weights by data type as they lie in the file, their zeros, and the modules that they fill."""
        census = _census(folder / files[0])
        modules = Counter(
            type(each).__name__ for each in _made_again(folder, files).modules() if not any(each.children())
        )
        wanted = _DTYPES.get(precision, precision)
        total = sum(census.sizes.values())
        ok = 2 * census.sizes[wanted] > total
        found = ", ".join(f"{name} {size} bytes" for name, size in sorted(census.sizes.items()))
        return Audit(
            ok=ok,
            reason="" if ok else f"asked for {precision}, but the weights in the file are: {found or 'none'}",
            nodes=dict(sorted(modules.items())),
            weight_bytes=dict(sorted(census.sizes.items())),
            parameters=census.parameters,
            sparsity=census.zeros / census.parameters if census.parameters else 0.0,
            providers=("torch",),
        )

    def note(self, precision: str, steps: tuple[StepConfig, ...]) -> str:
        """Where no gain is to be expected on this CPU."""
        return joined(half_precision_note(precision), zeros_note(steps))


def _made_again(folder: Path, files: tuple[str, ...]) -> Any:
    """The module of an artifact, in the precision of its file.

    Raises:
        InputError: the files are damaged, or the factory no longer makes the architecture that was saved.
        BuildError: the architecture was changed in a way that this release does not know.
    """
    if _ARCHITECTURE in files:
        return _from_factory(folder)
    return pruned_module(folder) if PLAN in files else _from_folder(folder)


def _from_folder(folder: Path) -> Any:
    import transformers

    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
            architecture = getattr(transformers, config.architectures[0])
            return architecture.from_pretrained(folder, dtype="auto")
    except Exception as error:
        raise InputError(f"{folder} cannot be opened as a transformers model: {first_line(error)}") from error


def _from_factory(folder: Path) -> Any:
    facts = json.loads((folder / _ARCHITECTURE).read_text(encoding="utf-8"))
    source = Source.from_dict({**facts["source"], "weights": None})
    return fill(make_module(source), facts["changes"], folder / _WEIGHTS, source.reference)


@dataclass
class _Census:
    """Bytes by data type of all tensors of a file; numbers and exact zeros among the floating-point ones."""

    sizes: Counter[str] = field(default_factory=Counter)
    parameters: int = 0
    zeros: int = 0


def _census(path: Path) -> _Census:
    from safetensors import safe_open

    census = _Census()
    with safe_open(str(path), "pt") as file:
        for name in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
            tensor = file.get_tensor(name)
            census.sizes[str(tensor.dtype).removeprefix("torch.")] += tensor.numel() * tensor.element_size()
            if tensor.is_floating_point():
                census.parameters += tensor.numel()
                census.zeros += int((tensor == 0).sum())
    return census


BACKEND = TorchBackend()
