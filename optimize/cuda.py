"""The few CUDA calls that an opened TensorRT plan needs: device memory, streams, events, graphs; every error becomes one of ours.

NVIDIA's own binding `cuda.bindings.runtime` is called, whose functions return a tuple that begins with a status.
"""

import importlib
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BuildError

_BUS_LENGTH = 32
"""Bytes for a PCI bus address and the zero at its end."""


@dataclass(frozen=True, eq=False)
class Buffer:
    """A piece of device memory; it is given back when nothing refers to it any more."""

    address: int
    bytes: int


@dataclass(frozen=True, eq=False)
class Graph:
    """Recorded work that is done as one piece; it is given back when nothing refers to it any more."""

    launchable: Any


class Cuda:
    """The CUDA runtime of this process, on its first device."""

    def __init__(self) -> None:
        self._runtime = importlib.import_module("cuda.bindings.runtime")

    def bus(self) -> str:
        """The PCI bus address of the first device that this process may see."""
        raw = self._did(self._runtime.cudaDeviceGetPCIBusId, _BUS_LENGTH, 0)
        text = raw.decode() if isinstance(raw, bytes) else str(raw)
        return text.partition("\0")[0]

    def buffer(self, size: int) -> Buffer:
        """Device memory of at least one byte."""
        buffer = Buffer(int(self._did(self._runtime.cudaMalloc, max(1, size))), size)
        weakref.finalize(buffer, self._runtime.cudaFree, buffer.address).atexit = False
        return buffer

    def stream(self) -> Any:
        """A stream that waits for no other."""
        return self._did(self._runtime.cudaStreamCreateWithFlags, self._runtime.cudaStreamNonBlocking)

    def event(self) -> Any:
        """A mark that can be put on a stream."""
        return self._did(self._runtime.cudaEventCreate)

    def copy_in(self, array: NDArray[Any], buffer: Buffer, stream: Any) -> None:
        """Have a contiguous array copied to the device; it must live until the stream was waited for."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._did(self._runtime.cudaMemcpyAsync, buffer.address, array.ctypes.data, array.nbytes, kind, stream)

    def copy_out(self, buffer: Buffer, array: NDArray[Any], stream: Any) -> None:
        """Have device memory copied into a contiguous array, which holds it when the stream was waited for."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._did(self._runtime.cudaMemcpyAsync, array.ctypes.data, buffer.address, array.nbytes, kind, stream)

    def fetched(self, buffer: Buffer, shape: tuple[int, ...], dtype: np.dtype[Any], stream: Any) -> NDArray[Any]:
        """Device memory as a new array."""
        array = np.empty(shape, dtype)
        self.copy_out(buffer, array, stream)
        self.wait(stream)
        return array

    def mark(self, event: Any, stream: Any) -> None:
        """Put an event on a stream: it happens when all that was asked of the stream before is done."""
        self._did(self._runtime.cudaEventRecord, event, stream)

    def milliseconds(self, first: Any, last: Any) -> float:
        """The time on the device between two events that have happened."""
        return float(self._did(self._runtime.cudaEventElapsedTime, first, last))

    def wait(self, stream: Any) -> None:
        """Wait until the stream has done all that was asked of it."""
        self._did(self._runtime.cudaStreamSynchronize, stream)

    def recorded(self, stream: Any, work: Callable[[], None]) -> Graph:
        """A graph of what `work` asks of a stream, recorded instead of done; `launch` does it as one piece.

        Where `work` raises, what was recorded until then is dropped and the stream can be used again.
        """
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._did(self._runtime.cudaStreamBeginCapture, stream, mode)
        try:
            work()
        except BaseException:
            self._runtime.cudaStreamEndCapture(stream)
            raise
        graph = self._did(self._runtime.cudaStreamEndCapture, stream)
        recorded = Graph(self._did(self._runtime.cudaGraphInstantiate, graph, 0))
        self._did(self._runtime.cudaGraphDestroy, graph)
        weakref.finalize(recorded, self._runtime.cudaGraphExecDestroy, recorded.launchable).atexit = False
        return recorded

    def launch(self, graph: Graph, stream: Any) -> None:
        """Have a recorded graph done."""
        self._did(self._runtime.cudaGraphLaunch, graph.launchable, stream)

    def drop_stream(self, stream: Any) -> None:
        """Give a stream back."""
        self._did(self._runtime.cudaStreamDestroy, stream)

    def drop_event(self, event: Any) -> None:
        """Give an event back."""
        self._did(self._runtime.cudaEventDestroy, event)

    def _did(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of the runtime and return its result, None where it has none.

        Raises:
            BuildError: its status is another than success.
        """
        status, *results = function(*arguments)
        if status != self._runtime.cudaError_t.cudaSuccess:
            raise BuildError(f"CUDA refused {function.__name__}: {self._words(status)}")
        return results[0] if results else None

    def _words(self, status: Any) -> str:
        texts = (self._runtime.cudaGetErrorName(status)[1], self._runtime.cudaGetErrorString(status)[1])
        name, meaning = (text.decode() if isinstance(text, bytes) else str(text) for text in texts)
        return f"{meaning} ({name})"
