"""TensorRT of paper: strict stand-ins for the few classes that are used, whose engines lie in the memory of fake_cuda.py.

Strict: networks must be strongly typed; a free dimension needs a profile; a context without shapes or places refuses to run; a graph is
recorded only after an ordinary call at its shapes; steps of a build are told from another thread. An engine runs its ONNX graph through
ONNX Runtime, so that its answers are real; its inspector tells the types that reach each product.

A test holds every name here to gpu_surface.json.
"""

import enum
import json
import threading
import types
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime
from fake_cuda import CALL_MS, FakeRuntime, surface_of

MAGIC = b"paper plan "
UNKNOWN = {"NonZero"}
"""Operators that the parser refuses."""
_TYPES = {1: "FLOAT", 10: "HALF", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 11: "DOUBLE"}
_WORDS = {"FLOAT": "Float", "HALF": "Row major linear FP16 format", "INT8": "Thirty-two wide vectorized Int8 format"}
_PRODUCTS = ("Conv", "Gemm", "MatMul")
_NO_MEMBERS = ("__init__", "name", "value", "itemsize")
_ENUMERATIONS = (
    "BuilderFlag",
    "LayerInformationFormat",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "ProfilingVerbosity",
    "TensorIOMode",
)


@dataclass
class Library:
    """What the objects of one module share.

    Attributes:
        module: the module that stands for `tensorrt`.
        runtime: the CUDA in whose memory engines run.
        version: the version that it says it is.
        built: of each build, what the builder was told.
        slow: seconds that each of the three steps of a build takes.
    """

    module: Any
    runtime: FakeRuntime
    version: str
    built: list[dict[str, Any]] = field(default_factory=list)
    slow: float = 0.0


def make_tensorrt(runtime: FakeRuntime, version: str) -> Library:
    """A library whose `module` has the names of that version, enumerations with the members of the real ones."""
    real = surface_of("tensorrt", version.split(".", maxsplit=1)[0])
    module = types.ModuleType("tensorrt")
    library = Library(module, runtime, version)
    module.__dict__["__version__"] = version
    for name in _ENUMERATIONS:
        members = [member for member in real[name] if member not in _NO_MEMBERS]
        setattr(module, name, enum.IntEnum(name, members, start=0))
    for kind in CLASSES:
        setattr(module, kind.__name__, type(kind.__name__, (kind,), {"_library": library}))
    return library


class ILogger:
    """Who hears of complaints."""

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        pass

    def log(self, severity: int, msg: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    """Who hears of progress."""

    def __init__(self) -> None:
        pass

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError


class INetworkDefinition:
    """A parsed graph."""

    def __init__(self) -> None:
        self._path = ""


class ParserError:
    """Why a graph was not parsed."""

    def __init__(self, described: str) -> None:
        self._described = described

    def desc(self) -> str:
        return self._described

    def node_name(self) -> str:
        return ""

    def node(self) -> int:
        return 7


class OnnxParser:
    """Reads a file into a network."""

    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network, self._heard = network, logger
        self._errors: list[ParserError] = []

    def parse_from_file(self, model: str) -> bool:
        self._network._path = model
        found = UNKNOWN & {node.op_type for node in onnx.load(model).graph.node}
        self._errors = [ParserError(f"no importer\nfor {name}") for name in found]
        return not found

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]


class IOptimizationProfile:
    """The shapes of every input."""

    def __init__(self) -> None:
        self._ranges: dict[str, list[list[int]]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
        if not all(low <= middle <= high for low, middle, high in zip(min, opt, max, strict=True)):
            raise ValueError("inconsistent shapes")
        self._ranges[input] = [list(min), list(opt), list(max)]


class IHostMemory(bytes):
    """Bytes of the library's own."""

    __slots__ = ()


class ITimingCache:
    """Measured times of kernels."""

    def __init__(self) -> None:
        self._kept = b""

    def serialize(self) -> IHostMemory:
        return IHostMemory(b"times;" + self._kept)


class IBuilderConfig:
    """How an engine is built; an attribute that is not named here cannot be set."""

    _library: ClassVar[Library]
    _names: ClassVar[tuple[str, ...]] = ("builder_optimization_level", "profiling_verbosity", "progress_monitor")
    builder_optimization_level = 3
    profiling_verbosity: Any = None
    progress_monitor: Any = None

    def __init__(self) -> None:
        self._flags = {self._library.module.BuilderFlag.TF32}
        self._limits: dict[str, int] = {}
        self._profiles: list[IOptimizationProfile] = []
        self._cache: ITimingCache | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        assert name.startswith("_") or name in self._names, f"IBuilderConfig has no {name}"
        object.__setattr__(self, name, value)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._limits[self._library.module.MemoryPoolType(pool).name] = pool_size

    def set_flag(self, flag: Any) -> None:
        self._flags.add(self._library.module.BuilderFlag(flag))

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(self._library.module.BuilderFlag(flag))

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1 if profile._ranges else -1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        cache = ITimingCache()
        cache._kept = bytes(serialized_timing_cache)
        return cache

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        fits = cache._kept == b"" or cache._kept.startswith(b"times;")
        if fits:
            self._cache = cache
        return fits

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache


class Builder:
    """Makes plans: the graph itself, with what is known of it before."""

    _library: ClassVar[Library]

    def __init__(self, logger: ILogger) -> None:
        self._heard = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        typed = 1 << int(self._library.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        assert flags == typed, "the network is not strongly typed"
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        config: IBuilderConfig = self._library.module.IBuilderConfig()
        return config

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        model = onnx.load(network._path)
        ranges = config._profiles[0]._ranges if config._profiles else {}
        missing = [value.name for value in model.graph.input if -1 in _shape(value) and value.name not in ranges]
        if missing:
            self._heard.log(ILogger.ERROR, f"no profile\nfor {missing}")
            return None
        if not self._steps(config.progress_monitor):
            return None
        self._library.built.append(
            {
                "flags": {flag.name for flag in config._flags},
                "limits": config._limits,
                "level": config.builder_optimization_level,
                "times": config._cache._kept if config._cache else None,
            }
        )
        detailed = config.profiling_verbosity == self._library.module.ProfilingVerbosity.DETAILED
        layers = layers_of(model) if detailed else [node.name for node in model.graph.node]
        facts = {"ranges": ranges, "layers": layers}
        return IHostMemory(MAGIC + json.dumps(facts).encode() + b"\n" + model.SerializeToString())

    def _steps(self, monitor: IProgressMonitor) -> bool:
        """The steps of a build, told from a thread of the builder's own; whether the monitor let them all be done."""
        went_on: list[bool] = []

        def work() -> None:
            monitor.phase_start("Building Engine", None, 3)
            for step in range(3):
                threading.Event().wait(self._library.slow)
                went_on.append(monitor.step_complete("Building Engine", step))
                if not went_on[-1]:
                    break
            monitor.phase_finish("Building Engine")

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return all(went_on)


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim)


def layers_of(model: Any) -> list[dict[str, Any]]:
    """What the inspector tells of a graph: its products in the type that reaches them, all else in FP32."""
    kinds = {tensor.name: _TYPES.get(tensor.data_type, "") for tensor in model.graph.initializer}
    kinds |= {out: "INT8" for node in model.graph.node if node.op_type == "DequantizeLinear" for out in node.output}
    return [_layer(node, kinds) for node in model.graph.node if node.input]


def _layer(node: Any, kinds: dict[str, str]) -> dict[str, Any]:
    product = node.op_type in _PRODUCTS
    kind = kinds.get(node.input[1], "FLOAT") if product else "FLOAT"
    given = [{"Name": node.input[0], "Format/Datatype": _WORDS[kind]}]
    return {"Name": node.name, "LayerType": "gemm" if product else node.op_type, "Inputs": given}


class Runtime:
    """Reads plans."""

    _library: ClassVar[Library]

    def __init__(self, logger: ILogger) -> None:
        self._heard = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> "ICudaEngine | None":
        if not serialized_engine.startswith(MAGIC):
            self._heard.log(ILogger.ERROR, "Serialization assertion failed:\n magic tag does not match")
            return None
        engine: ICudaEngine = self._library.module.ICudaEngine(serialized_engine, self._heard)
        return engine


class ICudaEngine:
    """A plan in memory."""

    _library: ClassVar[Library]

    def __init__(self, serialized: bytes, logger: ILogger) -> None:
        told, _, graph = serialized[len(MAGIC) :].partition(b"\n")
        self._facts, self._heard = json.loads(told), logger
        parsed = onnx.load_from_string(graph).graph
        self._values = {value.name: value for value in (*parsed.input, *parsed.output)}
        self._session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._outputs = [value.name for value in self._session.get_outputs()]

    @property
    def num_io_tensors(self) -> int:
        return len(self._inputs) + len(self._outputs)

    def get_tensor_name(self, index: int) -> str:
        return [*self._inputs, *self._outputs][index]

    def get_tensor_mode(self, name: str) -> Any:
        modes = self._library.module.TensorIOMode
        return modes.INPUT if name in self._inputs else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return types.SimpleNamespace(name=_TYPES[self._values[name].type.tensor_type.elem_type])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return _shape(self._values[name])

    def create_execution_context(self) -> "IExecutionContext":
        context: IExecutionContext = self._library.module.IExecutionContext(self)
        return context

    def create_engine_inspector(self) -> "EngineInspector":
        inspector: EngineInspector = self._library.module.EngineInspector(self)
        return inspector

    def _numpy(self, name: str) -> np.dtype[Any]:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self._values[name].type.tensor_type.elem_type))

    def _run(self, arrays: dict[str, Any]) -> dict[str, Any]:
        return dict(zip(self._outputs, self._session.run(None, arrays), strict=True))


class IExecutionContext:
    """Calls of an engine, one at a time."""

    _library: ClassVar[Library]

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._places: dict[str, int] = {}
        self._ran: dict[str, tuple[int, ...]] | None = None

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self._engine._facts["ranges"].get(name, [list(self._engine.get_tensor_shape(name))] * 3)
        inside = all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True))
        if inside:
            self._shapes[name] = tuple(shape)
        else:
            self._engine._heard.log(ILogger.ERROR, f"{name} {shape}\nis out of range")
        return inside

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._places[name] = memory
        return memory in self._library.runtime._memory

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        known = {**{key: self._engine.get_tensor_shape(key) for key in self._engine._inputs}, **self._shapes}
        if name in known:
            return known[name]
        if any(-1 in shape for shape in known.values()):
            return (-1,) * len(self._engine.get_tensor_shape(name))
        zeros = {key: np.zeros(shape, self._engine._numpy(key)) for key, shape in known.items()}
        return tuple(self._engine._run(zeros)[name].shape)

    def execute_async_v3(self, stream_handle: int) -> bool:
        stream = self._library.runtime._handles[stream_handle]
        if {*self._shapes, *self._places} != {*self._engine._inputs, *self._engine._outputs}:
            self._engine._heard.log(ILogger.ERROR, "shapes or places are missing")
            return False
        if stream.recording is not None and self._ran != self._shapes:
            self._engine._heard.log(ILogger.ERROR, "no ordinary call before the recording")
            return False
        self._ran = dict(self._shapes)
        shapes, places = dict(self._shapes), dict(self._places)
        self._library.runtime._ask(stream, lambda: self._work(shapes, places), CALL_MS)
        return True

    def _work(self, shapes: dict[str, tuple[int, ...]], places: dict[str, int]) -> None:
        arrays = {}
        for name, shape in shapes.items():
            kind = self._engine._numpy(name)
            held = self._library.runtime._bytes(places[name], int(np.prod(shape)) * kind.itemsize)
            assert held is not None, f"the input {name} was given back before the call was done"
            arrays[name] = np.frombuffer(held, kind).reshape(shape)
        for name, array in self._engine._run(arrays).items():
            held = self._library.runtime._bytes(places[name], array.nbytes)
            assert held is not None, f"the place of the output {name} is too small"
            held[:] = np.ascontiguousarray(array).tobytes()


class EngineInspector:
    """Tells what an engine is made of."""

    _library: ClassVar[Library]

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self.execution_context: IExecutionContext | None = None

    def get_engine_information(self, format: Any) -> str:  # noqa: A002
        assert format == self._library.module.LayerInformationFormat.JSON
        facts = self._engine._facts
        layers = facts["layers"]
        shapes = self.execution_context._shapes if self.execution_context else {}
        if set(facts["ranges"]) - set(shapes):
            unknown = [{"Format/Datatype": "N/A due to dynamic shapes"}]
            layers = [{**each, "Inputs": unknown} for each in layers]
        return json.dumps({"Layers": layers, "Bindings": []})


CLASSES = (
    Builder,
    EngineInspector,
    IBuilderConfig,
    ICudaEngine,
    IExecutionContext,
    IHostMemory,
    ILogger,
    INetworkDefinition,
    IOptimizationProfile,
    IProgressMonitor,
    ITimingCache,
    OnnxParser,
    ParserError,
    Runtime,
)
