"""NVIDIA's TensorRT as it is used here: imported where it is needed, its complaints collected, its engines read.

Only what both 10.12 and 11 have is called. Networks are strongly typed: an engine computes in the types of its ONNX graph, and
no flag turns an FP32 graph into an FP16 or INT8 engine.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import BuildError, InputError, UnavailableError

LEAST_VERSION = (10, 12)
_NUMPY = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
"""numpy's names of the types that inputs and outputs may have."""


def load_tensorrt() -> Any:
    """Import TensorRT.

    Raises:
        UnavailableError: it is not installed, its libraries are missing, or it is older than what is called here.
    """
    try:
        tensorrt = importlib.import_module("tensorrt")
    except ImportError as error:
        raise UnavailableError(
            f"tensorrt cannot be imported ({error}); `weighbridge doctor` says what is missing"
        ) from error
    if not new_enough(tensorrt.__version__):
        raise UnavailableError(
            f"TensorRT {tensorrt.__version__} is too old; {'.'.join(map(str, LEAST_VERSION))} or later builds strongly typed networks"
        )
    return tensorrt


def new_enough(version: str) -> bool:
    """Whether a version of TensorRT is one that is called here."""
    return tuple(int(part) for part in version.split(".")[:2]) >= LEAST_VERSION


def error_log(tensorrt: Any) -> Any:
    """A logger that keeps what TensorRT complains of in `errors` and prints nothing."""

    class ErrorLog(tensorrt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (tensorrt.ILogger.INTERNAL_ERROR, tensorrt.ILogger.ERROR):
                self.errors.append(msg)

    return ErrorLog()


def last_error(log: Any) -> str:
    """The last complaint in one line of at most 300 characters."""
    lines = " ".join(log.errors[-1].split()) if log.errors else "it gave no reason"
    return lines[:300]


@dataclass(frozen=True)
class EngineTensor:
    """An input or output of an engine: its name, its numpy type, and its shape; -1 stands for a free dimension."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Engine:
    """A plan that was read into this process.

    Attributes:
        tensorrt: the library.
        engine: its ICudaEngine.
        inputs: what it takes.
        outputs: what it gives.
        runtime: what the engine needs to stay alive.
        log: what TensorRT complains of.
    """

    tensorrt: Any
    engine: Any
    inputs: tuple[EngineTensor, ...]
    outputs: tuple[EngineTensor, ...]
    runtime: Any
    log: Any

    def complaint(self) -> str:
        """What TensorRT complained of last, in one line."""
        return last_error(self.log)


def read_engine(plan: Path) -> Engine:
    """Read a plan.

    Raises:
        UnavailableError: see `load_tensorrt`.
        BuildError: TensorRT refuses the plan, or an input or output has a type that numpy has not.
        InputError: the file cannot be read.
    """
    tensorrt = load_tensorrt()
    log = error_log(tensorrt)
    runtime = tensorrt.Runtime(log)
    try:
        engine = runtime.deserialize_cuda_engine(plan.read_bytes())
    except OSError as error:
        raise InputError(f"{plan} cannot be read: {error.strerror}; build the variant again") from error
    if engine is None:
        raise BuildError(f"TensorRT refuses the plan {plan.name}: {last_error(log)}")
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    taken = [name for name in names if engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT]
    return Engine(
        tensorrt,
        engine,
        tuple(_tensor(engine, name) for name in taken),
        tuple(_tensor(engine, name) for name in names if name not in taken),
        runtime,
        log,
    )


def _tensor(engine: Any, name: str) -> EngineTensor:
    kind = engine.get_tensor_dtype(name).name
    if kind not in _NUMPY:
        raise BuildError(f"the plan's tensor '{name}' has type {kind}; only {', '.join(_NUMPY)} can be given and taken")
    return EngineTensor(name, np.dtype(_NUMPY[kind]), tuple(engine.get_tensor_shape(name)))
