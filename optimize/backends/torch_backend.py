"""PyTorch, eager unless a step asks to compile: the reference that most teams have. Artifacts are safetensors; nothing is unpickled."""

import copy
import importlib.util
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batches import need_inputs, positions_of
from ..cuda_availability import torch_on_cuda
from ..errors import BuildError, ConfigError, InputError, UnavailableError, first_line
from ..factory import ARCHITECTURE, WEIGHTS, Architecture, built_module
from ..int8_plan import INT8, read_int8_plan
from ..loading import pruned_module, takes_by_name
from ..model import Batch, Form, Kind, Model, Signature, TorchModel
from ..pruning_plan import PLAN, write_plan
from ..quiet import quiet
from ..recipe import StepConfig, step_from_dict
from ..torch_audit import census_of, mismatch
from ..torch_cuda import device_times, on_cuda
from ..torch_int8 import with_integers_bare
from ..torchao_layers import need_compiler
from .base import Audit, Availability, Decoder, DeviceTimes, Opened, OpenOptions, Predictor, sleep_until
from .notes import half_precision_note, joined, torch_int8_note, zeros_note

_DEVICES = ("cpu", "cuda")

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Tensors as forward takes them: in order, or by name."""


class TorchPredictor:
    """A torch classifier on one device."""

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
        """Run the module once."""
        with self._torch.inference_mode():
            return self._module(*tensors[0], **tensors[1])

    def arrays(self, outputs: Any) -> dict[str, NDArray[Any]]:
        """The class scores: `.logits` of a transformers output, else the first tensor.

        Raises:
            InputError: the module returned no tensor.
        """
        return {"logits": self._scores(outputs).float().cpu().numpy()}

    def _scores(self, outputs: Any) -> Any:
        scores = getattr(outputs, "logits", outputs)
        if isinstance(scores, Mapping):
            scores = next(iter(scores.values()), None)
        elif isinstance(scores, tuple | list):
            scores = scores[0] if scores else None
        if not isinstance(scores, self._torch.Tensor):
            raise InputError(f"the module returned {type(outputs).__name__}; it must return a tensor of class scores")
        return scores

    def close(self) -> None:
        """Drop the module."""
        del self._module


class TorchCudaPredictor(TorchPredictor):
    """A torch classifier on a CUDA device; outputs are finished when `infer` returns."""

    def infer(self, tensors: Arguments) -> Any:
        """Run the module once and wait for the device."""
        outputs = super().infer(tensors)
        self._torch.cuda.synchronize()
        return outputs

    def device_times(self, tensors: Arguments, calls: int) -> DeviceTimes:
        """Medians of `calls` calls, the device's own time and the copies apart."""

        def call() -> list[Any]:
            return [self._scores(TorchPredictor.infer(self, tensors))]

        return device_times(call, [*tensors[0], *tensors[1].values()], calls)


class TorchDecoder:
    """A transformers causal language model with its own dynamic cache, which each step extends in place."""

    clock_ns: Callable[[], int] = staticmethod(time.perf_counter_ns)

    def __init__(self, module: Any, device: str = "cpu") -> None:
        import torch

        self._torch = torch
        self._device = device
        self._module = module.eval().to(device)

    def step(
        self, ids: NDArray[np.int64], mask: NDArray[np.int64], past: Any | None, *, last: bool = False
    ) -> tuple[NDArray[np.float32], Any]:
        """Feed new tokens; positions are counted from the mask, so left padding changes nothing."""
        torch = self._torch
        with torch.inference_mode():
            positions = positions_of(mask, ids.shape[1])
            answer = self._module(
                input_ids=torch.from_numpy(np.array(ids)).to(self._device),
                attention_mask=torch.from_numpy(np.array(mask)).to(self._device),
                position_ids=torch.from_numpy(positions).to(self._device),
                past_key_values=past,
                use_cache=True,
                logits_to_keep=int(last),
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
    return (TorchPredictor if device == "cpu" else TorchCudaPredictor)(module, signature, device)


class TorchBackend:
    """Eager PyTorch on the CPU or a CUDA device."""

    name = "torch"
    form: Form = "module"
    precisions = ("fp32", "fp16", "bf16", "int8")
    calibrated: tuple[str, ...] = ()

    def availability(self, provider: str | None = None) -> Availability:
        """Usable where torch is installed; on cuda, where it was built with CUDA and sees a device."""
        if importlib.util.find_spec("torch") is None:
            return Availability(usable=False, reason="torch is not installed", remedy="pip install torch")
        version = metadata.version("torch")
        return torch_on_cuda(version) if provider == "cuda" else Availability(usable=True, version=version)

    def default_steps(self, precision: str, kind: Kind) -> tuple[StepConfig, ...]:
        """Half precision for fp16 and bf16, torch's own dynamic quantization for int8; nothing for fp32."""
        del kind
        if precision == "int8":
            return (step_from_dict({"use": "torch-dynamic-int8"}),)
        return (step_from_dict({"use": "half-precision", "dtype": precision}),) if precision != "fp32" else ()

    def build(self, model: Model, folder: Path) -> tuple[str, ...]:
        """Save a transformers folder, or the factory's reference and its weights; beside them the structural changes.

        Layers that multiply 8-bit weights are saved as integers and scales, their plan beside them. A transformers folder's
        config stays that of the architecture before the changes, from which it is made again.

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
            _save_folder(model, folder)
            if model.changes:
                write_plan(folder, model.changes)
        else:
            _save_weights(model, folder)
            Architecture(model.source, model.changes).write(folder)
        if model.int8:
            model.int8.write(folder)
        return (WEIGHTS, *sorted(path.name for path in folder.iterdir() if path.name != WEIGHTS))

    def open(self, folder: Path, files: tuple[str, ...], signature: Signature, options: OpenOptions) -> Opened:
        """Make the module again and load the saved weights into it.

        Raises:
            ConfigError: the device is none that torch is asked for here.
            UnavailableError: there is no CUDA device, or layers in torch's own 8 bits were asked to run on one.
        """
        import torch

        device = options.provider or "cpu"
        if device not in _DEVICES:
            raise ConfigError(f"torch has no device '{device}' here. Allowed: {', '.join(_DEVICES)}")
        if device == "cuda" and not torch.cuda.is_available():
            raise UnavailableError('torch sees no CUDA device here; set device = "cpu" under [measure]')
        int8 = read_int8_plan(folder)
        if device != "cpu" and int8 and int8.scheme == "torch.ao":
            raise UnavailableError(
                'INT8 of torch runs on the CPU only; set device = "cpu" under [measure], or take step torchao-int8 for the GPU'
            )
        torch.set_num_threads(options.threads)
        module = _made_again(folder, files)
        if device == "cuda":
            module = on_cuda(module)
        if int8 and int8.compile:
            _compile(module)
        return _opened(module, signature, device)

    def audit(self, folder: Path, files: tuple[str, ...], precision: str) -> Audit:
        """Count weights by data type as they lie in the file, their zeros, and the modules that they fill.

        INT8 must hold most of the weights that layers multiply in 8 bits; embeddings are looked up and may stay as they are.
        """
        census = census_of(folder / files[0], _made_again(folder, files))
        reason = mismatch(precision, census)
        return Audit(
            ok=not reason,
            reason=reason,
            nodes=census.modules,
            weight_bytes=census.weight_bytes,
            parameters=census.parameters,
            sparsity=census.sparsity,
            providers=("torch",),
        )

    def note(self, precision: str, steps: tuple[StepConfig, ...]) -> str:
        """Where no gain is to be expected on this CPU."""
        return joined(half_precision_note(precision), zeros_note(steps), torch_int8_note(precision, steps))


def _save_folder(model: TorchModel, folder: Path) -> None:
    """Save a transformers model; one with layers in 8 bits, which transformers cannot save, as its config and its weights."""
    with quiet():
        if model.int8 is None:
            model.module.save_pretrained(folder)
            return
        config = copy.deepcopy(model.module.config)
        config.architectures = [type(model.module).__name__]
        config.save_pretrained(folder)
    _save_weights(model, folder)


def _save_weights(model: TorchModel, folder: Path) -> None:
    from safetensors.torch import save_model

    module = with_integers_bare(model.module) if model.int8 else model.module
    save_model(module, str(folder / WEIGHTS))


def _compile(module: Any) -> None:
    """Have the module compiled at its first call, for free shapes, in this process alone.

    Raises:
        UnavailableError: there is no C++ compiler.
    """
    need_compiler()
    with quiet():
        module.compile(dynamic=True, options={"compile_threads": 1})


def _made_again(folder: Path, files: tuple[str, ...]) -> Any:
    """The module of an artifact, in the precision of its file.

    Raises:
        InputError: the files are damaged, or the factory no longer makes the architecture that was saved.
        BuildError: the architecture was changed in a way that this release does not know.
    """
    if ARCHITECTURE in files:
        return built_module(folder)
    return pruned_module(folder) if {PLAN, INT8} & set(files) else _from_folder(folder)


def _from_folder(folder: Path) -> Any:
    import transformers

    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
            architecture = getattr(transformers, config.architectures[0])
            return architecture.from_pretrained(folder, dtype="auto")
    except Exception as error:
        raise InputError(f"{folder} cannot be opened as a transformers model: {first_line(error)}") from error


BACKEND = TorchBackend()
