"""OpenVINO on the CPU: an ONNX graph as OpenVINO's own files, one stream, in the precision of its weights or not at all."""

import importlib.util
import threading
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batches import as_types, need_inputs, positions_of
from ..cpu import int8_target
from ..errors import BuildError, ConfigError, NotAvailableYetError, UnavailableError
from ..model import Batch, CacheSpec, Form, Kind, Model, OnnxModel, Signature
from ..no_telemetry import without_telemetry
from ..onnx_decoder import past_names, present_names
from ..openvino_audit import ir_census, ir_mismatch, weight_precision
from ..recipe import StepConfig, step_from_dict
from .base import Audit, Availability, Opened, OpenOptions, sleep_until
from .notes import half_precision_note, joined, zeros_note

_FILES = ("model.xml", "model.bin")
_DEVICE = "CPU"
_INSTALL = "pip install 'weighbridge[openvino]'"
_STEPS = {"fp16": "onnx-half-precision", "bf16": "onnx-bf16-weights", "int8": "nncf-int8"}


class OpenVinoPredictor:
    """A compiled model on named arrays; each calling thread has an inference request of its own, for one serves one call.

    The model has one stream, so that callers at once wait for each other as they do for one ONNX Runtime session's threads.
    """

    clock_ns: Callable[[], int] = staticmethod(time.perf_counter_ns)
    sleep_until: Callable[[int], None] = staticmethod(sleep_until)

    def __init__(self, compiled: Any, signature: Signature) -> None:
        self._compiled = compiled
        self._wanted = signature.outputs
        self._dtypes = {port.get_any_name(): np.dtype(port.get_element_type().to_dtype()) for port in compiled.inputs}
        self._requests = threading.local()

    def load(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """Give each input the data type that the model wants; arrays that it does not take are left out.

        Raises:
            InputError: the batch lacks one of the model's inputs.
        """
        need_inputs(batch, self._dtypes)
        return as_types(batch, self._dtypes)

    def infer(self, tensors: dict[str, NDArray[Any]]) -> Any:
        """Run the model once; inputs are taken where they lie, outputs are copied out of the request."""
        return self._request().infer(tensors, share_inputs=True, share_outputs=False)

    def arrays(self, outputs: Any) -> dict[str, NDArray[Any]]:
        """Name the outputs, in the order of the signature; floats as float32."""
        named = {name: array for port, array in outputs.items() for name in port.get_names()}
        first = {port.get_any_name(): array for port, array in outputs.items()}
        chosen = {name: named[name] for name in self._wanted if name in named} or first
        return {name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in chosen.items()}

    def close(self) -> None:
        """Drop the compiled model and the requests."""
        del self._compiled, self._requests

    def _request(self) -> Any:
        try:
            return self._requests.own
        except AttributeError:
            self._requests.own = self._compiled.create_infer_request()
            return self._requests.own


class OpenVinoDecoder:
    """A compiled model whose cache is its state; each prompt has an inference request, and so a state, of its own."""

    clock_ns: Callable[[], int] = staticmethod(time.perf_counter_ns)

    def __init__(self, compiled: Any, cache: CacheSpec) -> None:
        self._compiled = compiled
        self._cache = cache
        self._tensor = without_telemetry("openvino").Tensor

    def step(
        self, ids: NDArray[np.int64], mask: NDArray[np.int64], past: Any | None, *, last: bool = False
    ) -> tuple[NDArray[np.float32], Any]:
        """Feed new tokens; positions are counted from the mask, so left padding changes nothing."""
        request = self._prompt(len(ids)) if past is None else past
        new = ids.shape[1]
        feeds = {
            "input_ids": np.ascontiguousarray(ids),
            "attention_mask": np.ascontiguousarray(mask),
            "position_ids": np.ascontiguousarray(positions_of(mask, new)),
            "logits_to_keep": np.arange(new - 1 if last else 0, new),
        }
        outputs = request.infer(feeds, share_inputs=True, share_outputs=False)
        return outputs["logits"].astype(np.float32, copy=False), request

    def close(self) -> None:
        """Drop the compiled model."""
        del self._compiled

    def _prompt(self, batch: int) -> Any:
        """A request with an empty cache: the plugin itself would begin with one of no rows."""
        request = self._compiled.create_infer_request()
        for state in request.query_state():
            empty = np.zeros((batch, self._cache.heads, 0, self._cache.head_size), state.state.element_type.to_dtype())
            state.state = self._tensor(empty)
        return request


class OpenVinoBackend:
    """OpenVINO's CPU plugin."""

    name = "openvino"
    form: Form = "onnx"
    precisions = ("fp32", "bf16", "fp16", "int8")
    calibrated: tuple[str, ...] = ("int8",)

    def availability(self, provider: str | None = None) -> Availability:
        """Usable where openvino is installed, on the CPU."""
        if importlib.util.find_spec("openvino") is None:
            return Availability(usable=False, reason="openvino is not installed", remedy=_INSTALL)
        version = metadata.version("openvino")
        if provider not in (None, "cpu"):
            reason = f"openvino runs on the CPU here, not on {provider}"
            return Availability(usable=False, reason=reason, remedy='device = "cpu" under [measure]', version=version)
        return Availability(usable=True, version=version)

    def default_steps(self, precision: str, kind: Kind) -> tuple[StepConfig, ...]:
        """NNCF's INT8 for int8, half-precision weights for fp16 and bf16; nothing for fp32.

        Raises:
            ConfigError: there is no such precision here.
            NotAvailableYetError: int8 of a generator.
            UnavailableError: bf16, and this processor has no BF16 arithmetic.
        """
        if precision not in self.precisions:
            raise ConfigError(f"the openvino backend builds no {precision}. Allowed: {', '.join(self.precisions)}")
        if precision == "int8" and kind == "decoder":
            raise NotAvailableYetError(
                "generators in INT8 on OpenVINO are not available yet in this release; use onnxruntime int8 or int4 for them"
            )
        if precision == "bf16":
            _need_bf16(without_telemetry("openvino").Core())
        return (step_from_dict({"use": _STEPS[precision]}),) if precision in _STEPS else ()

    def build(self, model: Model, folder: Path) -> tuple[str, ...]:
        """Convert the ONNX graph; weights keep their types, and a decoder's cache becomes its state.

        Raises:
            BuildError: the model is no ONNX file, or OpenVINO cannot convert it.
        """
        if not isinstance(model, OnnxModel):
            raise BuildError("the openvino backend builds from ONNX models only; export the module first")
        openvino = without_telemetry("openvino")
        converted = _read(openvino.Core(), model.path)
        if model.signature.cache is not None:
            _keep_cache(converted, model.signature.cache)
        openvino.save_model(converted, str(folder / _FILES[0]), compress_to_fp16=False)
        return _FILES

    def open(self, folder: Path, files: tuple[str, ...], signature: Signature, options: OpenOptions) -> Opened:
        """Compile for the CPU, with as many threads as were asked for.

        Raises:
            BuildError, ConfigError, UnavailableError: see `compile_ir`.
        """
        _, compiled = compile_ir(folder / files[0], options)
        if signature.cache is not None:
            return OpenVinoDecoder(compiled, signature.cache)
        return OpenVinoPredictor(compiled, signature)

    def audit(self, folder: Path, files: tuple[str, ...], precision: str) -> Audit:
        """Read operators and weights from the IR, and from the compiled model in what precision its layers run."""
        model, compiled = compile_ir(folder / files[0], OpenOptions())
        census = ir_census(model, compiled)
        reason = ir_mismatch(precision, census)
        return Audit(
            ok=not reason,
            reason=reason,
            nodes={**census.operators, **census.ran},
            weight_bytes=census.weight_bytes,
            parameters=census.parameters,
            sparsity=census.sparsity,
            providers=tuple(compiled.get_property("EXECUTION_DEVICES")),
        )

    def note(self, precision: str, steps: tuple[StepConfig, ...]) -> str:
        """Where no gain is to be expected on this CPU."""
        return joined(half_precision_note(precision), zeros_note(steps), _int8_note(precision))


def compile_ir(path: Path, options: OpenOptions) -> tuple[Any, Any]:
    """Read OpenVINO's files and compile them for the CPU; returns the model and the compiled model.

    The model computes in the type of its floating-point weights. On processors that have no FP16 arithmetic FP16 weights are
    computed with in FP32, as ONNX Runtime does; of BF16 no such stand-in is taken.

    Raises:
        BuildError: OpenVINO refuses the files, or takes another device, precision or number of threads than asked for.
        ConfigError: another provider than the CPU was asked for.
        UnavailableError: the weights are BF16, and this processor has no BF16 arithmetic.
    """
    if options.provider not in (None, "cpu"):
        raise ConfigError(f"the openvino backend has no provider '{options.provider}'. Allowed: cpu")
    core = without_telemetry("openvino").Core()
    model = _read(core, path)
    settings = _settings(core, weight_precision(model), options.threads)
    try:
        compiled = core.compile_model(model, _DEVICE, settings)
    except RuntimeError as error:
        raise BuildError(f"OpenVINO refuses {path.name}: {_last_line(error)}") from error
    _need_as_asked(compiled, settings)
    return model, compiled


def _settings(core: Any, weights: str, threads: int) -> dict[str, Any]:
    """How the plugin is asked to run: latency first, in one stream, no thread bound to a core of its own."""
    if weights == "bf16":
        _need_bf16(core)
    if weights == "f16" and "FP16" not in _capabilities(core):
        weights = "f32"
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": weights,
        "KV_CACHE_PRECISION": weights,
        "ENABLE_CPU_PINNING": False,
        "ENABLE_HYPER_THREADING": True,
    }


def _capabilities(core: Any) -> list[str]:
    return list(core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES"))


def _need_bf16(core: Any) -> None:
    if "BF16" not in _capabilities(core):
        raise UnavailableError(
            f"this processor has no BF16 arithmetic (OpenVINO finds {', '.join(_capabilities(core))}), so OpenVINO would "
            "silently compute in FP32. To make it available: a processor with AVX512-BF16 or AMX"
        )


def _need_as_asked(compiled: Any, settings: dict[str, Any]) -> None:
    """Refuse a silent fall-back: the plugin takes what it cannot do as a mere hint."""
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    threads = compiled.get_property("INFERENCE_NUM_THREADS")
    devices = list(compiled.get_property("EXECUTION_DEVICES"))
    asked = (settings["INFERENCE_PRECISION_HINT"], settings["INFERENCE_NUM_THREADS"], [_DEVICE])
    if (precision, threads, devices) != asked:
        raise BuildError(
            f"asked OpenVINO for {asked[0]} on {asked[1]} threads of the CPU, but it silently fell back to "
            f"{precision} on {threads} threads of {', '.join(devices)}"
        )


def _int8_note(precision: str) -> str:
    if precision == "int8" and int8_target() == "x86":
        return (
            "no gain expected here: this CPU has no VNNI, without which OpenVINO's INT8 takes about as long as its FP32"
        )
    return ""


def _keep_cache(converted: Any, cache: CacheSpec) -> None:
    """Let the cache stay in the plugin from one call to the next: its inputs and outputs become state."""
    passes = importlib.import_module("openvino.passes")
    manager = passes.Manager()
    names = zip(past_names(cache.layers), present_names(cache.layers), strict=True)
    manager.register_pass(passes.MakeStateful(dict(names)))
    manager.run_passes(converted)


def _read(core: Any, path: Path) -> Any:
    try:
        return core.read_model(str(path))
    except RuntimeError as error:
        raise BuildError(f"OpenVINO cannot read {path.name}: {_last_line(error)}") from error


def _last_line(error: RuntimeError) -> str:
    """What OpenVINO complains of: the last line of its text, after where in its sources it was found."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


BACKEND = OpenVinoBackend()
