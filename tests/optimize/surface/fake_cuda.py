"""A GPU of paper: strict stand-ins for the few calls of CUDA and NVML that are made, and for nothing else.

Strict: whatever is asked of a stream is done when somebody waits for it and not before; memory that was given back, or is too small, is
an error; nothing may be waited for while it is recorded. Time on the device is synthetic: a copy takes 1 ms, a call 5 ms.

A test holds every name here to gpu_surface.json.
"""

# ruff: noqa: N802, N803, N815, ARG002 - the names are NVIDIA's

import ctypes
import enum
import json
import os
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

SURFACE = json.loads(Path(__file__).with_name("gpu_surface.json").read_text(encoding="utf-8"))
COPY_MS, CALL_MS = 1.0, 5.0
BUS = "0000:65:00.0"


def surface_of(package: str, version: str = "") -> dict[str, Any]:
    """The real names of a package; of several versions the one that begins so."""
    return next(names for name, names in SURFACE.items() if name.startswith(f"{package} {version}"))


class Work:
    """Something asked of a stream, and the milliseconds that it takes."""

    def __init__(self, do: Callable[[], None], milliseconds: float) -> None:
        self.do, self.milliseconds = do, milliseconds


class Handle:
    """A stream, an event, a graph: known to the runtime by a number."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.work: list[Work] = []
        self.recording: list[Work] | None = None
        self.happened: float | None = None

    def __int__(self) -> int:
        return self._number


CUDA = surface_of("cuda.bindings.runtime")


class FakeRuntime:
    """`cuda.bindings.runtime`: each function returns a status and its results."""

    cudaError_t = enum.IntEnum("cudaError_t", {name: number for number, name in enumerate(CUDA["cudaError_t"])})
    cudaMemcpyKind = enum.IntEnum("cudaMemcpyKind", list(CUDA["cudaMemcpyKind"]), start=0)
    cudaStreamCaptureMode = enum.IntEnum("cudaStreamCaptureMode", list(CUDA["cudaStreamCaptureMode"]), start=0)
    cudaStreamNonBlocking = 1

    def __init__(self, memory: int = 1 << 24) -> None:
        self._left, self._now, self._next = memory, 0.0, 0x1000
        self._lock = threading.RLock()
        self._memory: dict[int, bytearray] = {}
        self._handles: dict[int, Handle] = {}

    @property
    def _ok(self) -> Any:
        return self.cudaError_t.cudaSuccess

    @property
    def _invalid(self) -> tuple[Any, None]:
        return self.cudaError_t.cudaErrorInvalidValue, None

    def _number(self) -> int:
        with self._lock:
            self._next += 1 << 20
            return self._next

    def _made(self) -> tuple[Any, Handle]:
        handle = Handle(self._number())
        self._handles[int(handle)] = handle
        return self._ok, handle

    def _dropped(self, handle: Handle) -> tuple[Any]:
        return (self._ok if self._handles.pop(int(handle), None) else self.cudaError_t.cudaErrorInvalidResourceHandle,)

    def _bytes(self, address: int, count: int) -> memoryview | None:
        """Device memory; None where it is not wholly inside one piece that is held."""
        piece = self._memory.get(address)
        return None if piece is None or count > len(piece) else memoryview(piece)[:count]

    def _ask(self, stream: Handle, do: Callable[[], None], milliseconds: float) -> None:
        waiting = stream.work if stream.recording is None else stream.recording
        waiting.append(Work(do, milliseconds))

    def cudaDeviceGetPCIBusId(self, length: int, device: int) -> tuple[Any, bytes]:
        assert device == 0
        return self._ok, (BUS.encode() + b"\0").ljust(length, b"?")

    def cudaMalloc(self, size: int) -> tuple[Any, int | None]:
        with self._lock:
            if size > self._left:
                return self.cudaError_t.cudaErrorMemoryAllocation, None
            self._left -= size
            address = self._number()
            self._memory[address] = bytearray(b"\xff" * size)
        return self._ok, address

    def cudaFree(self, devPtr: int) -> tuple[Any]:
        with self._lock:
            if devPtr not in self._memory:
                return (self.cudaError_t.cudaErrorInvalidValue,)
            self._left += len(self._memory.pop(devPtr))
        return (self._ok,)

    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: Any, stream: Handle) -> tuple[Any, ...]:
        inward = kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice
        device, host = (dst, src) if inward else (src, dst)
        if int(stream) not in self._handles or self._bytes(device, count) is None:
            return self._invalid

        def copy() -> None:
            held = self._bytes(device, count)
            assert held is not None, "device memory was given back before a copy was done"
            outside = (ctypes.c_char * count).from_address(host)
            if inward:
                held[:] = outside.raw
            else:
                outside.raw = bytes(held)

        self._ask(stream, copy, COPY_MS)
        return (self._ok,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, Handle]:
        assert flags == self.cudaStreamNonBlocking
        return self._made()

    def cudaStreamDestroy(self, stream: Handle) -> tuple[Any]:
        return self._dropped(stream)

    def cudaStreamSynchronize(self, stream: Handle) -> tuple[Any]:
        if stream.recording is not None:
            return (self.cudaError_t.cudaErrorStreamCaptureUnsupported,)
        while stream.work:
            work = stream.work.pop(0)
            with self._lock:
                self._now += work.milliseconds
            work.do()
        return (self._ok,)

    def cudaStreamBeginCapture(self, stream: Handle, mode: Any) -> tuple[Any]:
        assert mode == self.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        assert not stream.work, "work was asked for before a recording"
        stream.recording = []
        return (self._ok,)

    def cudaStreamEndCapture(self, stream: Handle) -> tuple[Any, Handle]:
        status, graph = self._made()
        graph.work, stream.recording = stream.recording or [], None
        return status, graph

    def cudaGraphInstantiate(self, graph: Handle, flags: int) -> tuple[Any, Handle]:
        assert flags == 0
        status, launchable = self._made()
        launchable.work = list(graph.work)
        return status, launchable

    def cudaGraphDestroy(self, graph: Handle) -> tuple[Any]:
        return self._dropped(graph)

    def cudaGraphExecDestroy(self, graphExec: Handle) -> tuple[Any]:
        return self._dropped(graphExec)

    def cudaGraphLaunch(self, graphExec: Handle, stream: Handle) -> tuple[Any, ...]:
        if int(graphExec) not in self._handles:
            return self._invalid
        stream.work.extend(graphExec.work)
        return (self._ok,)

    def cudaEventCreate(self) -> tuple[Any, Handle]:
        return self._made()

    def cudaEventDestroy(self, event: Handle) -> tuple[Any]:
        return self._dropped(event)

    def cudaEventRecord(self, event: Handle, stream: Handle) -> tuple[Any]:
        def happen() -> None:
            event.happened = self._now

        event.happened = None
        self._ask(stream, happen, 0.0)
        return (self._ok,)

    def cudaEventElapsedTime(self, start: Handle, end: Handle) -> tuple[Any, float | None]:
        if start.happened is None or end.happened is None:
            return self.cudaError_t.cudaErrorNotReady, None
        return self._ok, end.happened - start.happened

    def cudaGetErrorName(self, error: Any) -> tuple[Any, bytes]:
        return self._ok, error.name.encode()

    def cudaGetErrorString(self, error: Any) -> tuple[Any, bytes]:
        return self._ok, f"what is told of {error.name}".encode()


class NVMLError(Exception):
    """An error of the library."""


class FakeNvml:
    """`pynvml` on a machine with some GPUs, on the first of which this process holds 512 MiB."""

    NVMLError = NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2
    nvmlClocksThrottleReasonGpuIdle = 1

    def __init__(self, count: int = 1) -> None:
        self._count = count
        self._open = 0
        self._reasons = self.nvmlClocksThrottleReasonGpuIdle
        self._driver = "580.65.06"
        self._processes: tuple[tuple[int, int | None], ...] = ((1, 1 << 30), (os.getpid(), 512 << 20))

    def nvmlInit(self) -> None:
        self._open += 1

    def nvmlShutdown(self) -> None:
        self._open -= 1

    def nvmlDeviceGetCount(self) -> int:
        assert self._open
        return self._count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetHandleByPciBusId(self, pciBusId: str) -> int:
        assert self._open
        if pciBusId != BUS:
            raise NVMLError("Not Found")
        return 0

    def nvmlDeviceGetName(self, handle: int) -> str:
        return f"Paper GPU {handle}"

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:
        return 9, 0

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return self._driver.encode()

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> types.SimpleNamespace:
        return types.SimpleNamespace(total=80 << 30, used=2 << 30)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[types.SimpleNamespace]:
        held = self._processes if handle == 0 else ()
        return [types.SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in held]

    def nvmlDeviceGetClockInfo(self, handle: int, type: int) -> int:  # noqa: A002
        return {self.NVML_CLOCK_SM: 1980, self.NVML_CLOCK_MEM: 2619}[type]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:
        return self._reasons
