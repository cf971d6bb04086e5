"""ONNX Runtime: one .onnx file, one session, one execution provider that is really the one asked for."""

import importlib.util
import shutil
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batches import as_types, need_inputs
from ..cuda_availability import onnxruntime_on
from ..errors import BuildError, ConfigError, InputError, UnavailableError, first_line
from ..model import Batch, Form, Kind, Model, OnnxModel, Signature
from ..onnx_audit import census_of, mismatch
from ..onnx_files import external_files, read_valid
from ..onnxruntime_decoder import open_decoder
from ..onnxruntime_device import TELL_PLACES, OnnxRuntimeDevicePredictor, need_no_fall_back, providers_for
from ..quiet import quiet
from ..recipe import StepConfig, step_from_dict
from .base import Audit, Availability, Opened, OpenOptions, sleep_until
from .notes import half_precision_note, joined, weight_only_note, zeros_note

_FILE = "model.onnx"
_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
_CONVOLUTION_LAYOUT = "NchwcTransformer"
"""The optimizer that lays tensors out for convolutions. FP16 graphs without any can crash it (ONNX Runtime 1.31, FP16 GPT-2)."""
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_NUMPY_TYPES = {"float": "float32", "double": "float64", **{name: name for name in ("float16", "bool", *_INTEGERS)}}


class OnnxRuntimePredictor:
    """A session on named arrays; `infer` is the bare session call."""

    clock_ns: Callable[[], int] = staticmethod(time.perf_counter_ns)
    sleep_until: Callable[[int], None] = staticmethod(sleep_until)

    def __init__(self, session: Any, signature: Signature) -> None:
        self._run = session.run
        self._given = [value.name for value in session.get_outputs()]
        self._wanted = signature.outputs
        self._dtypes = {value.name: _numpy_type(value) for value in session.get_inputs()}

    def load(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """Give each input the data type that the graph wants; arrays that the graph does not take are left out.

        Raises:
            InputError: the batch lacks one of the graph's inputs.
        """
        need_inputs(batch, self._dtypes)
        return as_types(batch, self._dtypes)

    def infer(self, tensors: dict[str, NDArray[Any]]) -> Any:
        """Run the session once."""
        return self._run(None, tensors)

    def arrays(self, outputs: Any) -> dict[str, NDArray[Any]]:
        """Name the output tensors, in the order of the signature; floats as float32."""
        named = dict(zip(self._given, outputs, strict=True))
        ordered = [name for name in self._wanted if name in named] or self._given
        tensors = {name: named[name] for name in ordered if isinstance(named[name], np.ndarray)}
        return {name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in tensors.items()}

    def close(self) -> None:
        """Drop the session."""
        del self._run


class OnnxRuntimeBackend:
    """ONNX Runtime on the CPU, or on CUDA where its provider is installed."""

    name = "onnxruntime"
    form: Form = "onnx"
    precisions = ("fp32", "fp16", "int8", "int4")
    calibrated: tuple[str, ...] = ()

    def availability(self, provider: str | None = None) -> Availability:
        """Usable where onnxruntime is installed; on cuda or tensorrt, where it was built with that provider."""
        if importlib.util.find_spec("onnxruntime") is None:
            return Availability(usable=False, reason="onnxruntime is not installed", remedy="pip install onnxruntime")
        found = (name for name in _DISTRIBUTIONS if any(metadata.distributions(name=name)))
        name = next(found, None)
        version = metadata.version(name) if name else ""
        if provider in (None, "cpu"):
            return Availability(usable=True, version=version)
        return onnxruntime_on(_PROVIDERS[provider], version)

    def default_steps(self, precision: str, kind: Kind) -> tuple[StepConfig, ...]:
        """Dynamic INT8 for int8, weight-only INT4 for int4, FP16 conversion for fp16; nothing for fp32.

        A generator's INT4 has larger blocks without zero points, and its INT8 is dynamic too: bench/scripts/generator_figures.py
        prints what the other choices would give.

        Raises:
            ConfigError: the precision is one that ONNX Runtime does not compute in.
        """
        if precision == "int8":
            return (step_from_dict({"use": "dynamic-int8"}),)
        if precision == "fp16":
            return (step_from_dict({"use": "onnx-half-precision"}),)
        if precision == "int4":
            blocks = {"block_size": 128, "symmetric": True} if kind == "decoder" else {}
            return (step_from_dict({"use": "weight-only", "bits": 4, **blocks}),)
        if precision != "fp32":
            raise ConfigError(
                f"ONNX Runtime has no {precision} kernels on a CPU. "
                f"Allowed: {', '.join(self.precisions)}; for bf16 use backend torch"
            )
        return ()

    def build(self, model: Model, folder: Path) -> tuple[str, ...]:
        """Copy the ONNX file, with the files of weights that it refers to.

        Raises:
            BuildError: the model is no ONNX file.
        """
        if not isinstance(model, OnnxModel):
            raise BuildError("the onnxruntime backend builds from ONNX models only; export the module first")
        beside = external_files(model.path)
        for source, name in ((model.path, _FILE), *((model.path.parent / name, name) for name in beside)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / name)
        return (_FILE, *beside)

    def open(self, folder: Path, files: tuple[str, ...], signature: Signature, options: OpenOptions) -> Opened:
        """Create a session that does not spin between calls and runs on the provider that was asked for.

        Raises:
            BuildError, ConfigError, UnavailableError: see `make_session`.
        """
        session = make_session(folder / files[0], options, convolutions=signature.kind != "decoder")
        if signature.kind == "decoder" and signature.cache is not None:
            return open_decoder(session, signature.cache, _numpy_type)
        if options.provider in (None, "cpu"):
            return OnnxRuntimePredictor(session, signature)
        return OnnxRuntimeDevicePredictor(
            session, signature, {each.name: _numpy_type(each) for each in session.get_inputs()}
        )

    def audit(self, folder: Path, files: tuple[str, ...], precision: str) -> Audit:
        """Read nodes and weights from the file, and the provider from a real session."""
        census = census_of(read_valid(folder / files[0]))
        reason = mismatch(precision, census)
        session = make_session(folder / files[0], OpenOptions(), convolutions="Conv" in census.nodes)
        return Audit(
            ok=not reason,
            reason=reason,
            nodes=census.nodes,
            weight_bytes=census.weight_bytes,
            parameters=census.parameters,
            sparsity=census.sparsity,
            providers=tuple(session.get_providers()),
        )

    def note(self, precision: str, steps: tuple[StepConfig, ...]) -> str:
        """Where no gain is to be expected on this CPU."""
        return joined(half_precision_note(precision), zeros_note(steps), weight_only_note(precision, steps))


def make_session(path: Path, options: OpenOptions, *, convolutions: bool = True) -> Any:
    """Create an inference session; a graph known to have no convolutions is spared being laid out for them.

    Raises:
        BuildError: the runtime refuses the file, or would run it on another provider than the one asked for.
        ConfigError: no such provider is known.
        UnavailableError: the installed ONNX Runtime was built without the provider.
    """
    import onnxruntime

    wanted = _provider(options)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if wanted != _PROVIDERS["cpu"]:
        settings.add_session_config_entry(TELL_PLACES, "1")
        with quiet():
            onnxruntime.preload_dlls()
    try:
        session = onnxruntime.InferenceSession(
            str(path),
            settings,
            providers=providers_for(wanted),
            disabled_optimizers=[] if convolutions else [_CONVOLUTION_LAYOUT],
        )
    except Exception as error:
        raise BuildError(f"ONNX Runtime refuses {path.name}: {first_line(error)}") from error
    if session.get_providers()[0] != wanted:
        raise BuildError(f"asked for {wanted}, but ONNX Runtime silently fell back to {session.get_providers()[0]}")
    if wanted != _PROVIDERS["cpu"]:
        need_no_fall_back(session, wanted)
    return session


def _provider(options: OpenOptions) -> str:
    """The runtime's name of the provider asked for."""
    import onnxruntime

    name = options.provider or "cpu"
    if name not in _PROVIDERS:
        raise ConfigError(f"ONNX Runtime has no provider '{name}' here. Allowed: {', '.join(_PROVIDERS)}")
    there = onnxruntime.get_available_providers()
    if _PROVIDERS[name] not in there:
        raise UnavailableError(
            f"asked for {_PROVIDERS[name]}, but the installed ONNX Runtime has only {', '.join(there)}; "
            "on a machine with an NVIDIA GPU: pip install onnxruntime-gpu"
        )
    return _PROVIDERS[name]


def _numpy_type(value: Any) -> np.dtype[Any]:
    """The numpy type of an input whose type reads `tensor(float)` or alike.

    Raises:
        InputError: numpy has no such type.
    """
    name = _NUMPY_TYPES.get(value.type.removeprefix("tensor(").removesuffix(")"))
    if name is None:
        raise InputError(f"the model's input '{value.name}' has type {value.type}, which numpy cannot hold")
    return np.dtype(name)


BACKEND = OnnxRuntimeBackend()
