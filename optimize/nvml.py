"""NVIDIA's management library: which GPUs there are, and what one of them holds and how fast it is clocked at this moment.

Read without a CUDA context, so that looking costs the GPU nothing.
"""

import contextlib
import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .errors import UnavailableError

_INSTALL = "pip install nvidia-ml-py"
_DRIVER = "install the NVIDIA driver, then run nvidia-smi"


@dataclass(frozen=True)
class Gpu:
    """A GPU: its name, its compute capability (as in 9.0), its driver's version, its memory in bytes."""

    name: str
    capability: str
    driver: str
    memory_bytes: int


@dataclass(frozen=True)
class GpuReading:
    """One look at a GPU: memory in use by everyone and by this process (None where it is not told), clocks in MHz.

    `held_back` is the driver's bit mask of reasons for which clocks are lower than they could be, idleness left out; 0: none.
    """

    used_bytes: int
    own_bytes: int | None
    sm_clock_mhz: int
    memory_clock_mhz: int
    held_back: int


def gpus() -> tuple[Gpu, ...]:
    """Every GPU of this machine.

    Raises:
        UnavailableError: the library's Python package or the driver is missing; the text says which, and what would help.
    """
    with _nvml() as nvml:
        return tuple(_gpu(nvml, handle) for handle in _handles(nvml))


def gpu_at(bus: str) -> Gpu:
    """The GPU at a PCI bus address, such as `0000:65:00.0`; raises as `gpus` does."""
    with _nvml() as nvml:
        return _gpu(nvml, nvml.nvmlDeviceGetHandleByPciBusId(bus))


def read_gpu() -> GpuReading | None:
    """A reading of the GPU on which this process runs; None where several are there and none of them tells of this process.

    In a container the driver may know this process by another number; then only a single GPU is surely the right one.

    Raises:
        UnavailableError: see `gpus`.
    """
    with _nvml() as nvml:
        handles = _handles(nvml)
        owned = {number: _own_bytes(nvml, handle) for number, handle in enumerate(handles)}
        mine = [number for number, held in owned.items() if held is not None] or list(owned)
        if len(mine) != 1:
            return None
        return _reading(nvml, handles[mine[0]], owned[mine[0]])


@contextlib.contextmanager
def _nvml() -> Iterator[Any]:
    """The library, opened for the block."""
    try:
        nvml = importlib.import_module("pynvml")
    except ModuleNotFoundError as error:
        raise UnavailableError(f"nvidia-ml-py is not installed. To make it available: {_INSTALL}") from error
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise UnavailableError(f"no NVIDIA driver was found ({error}). To make one available: {_DRIVER}") from error
    try:
        yield nvml
    except nvml.NVMLError as error:
        raise UnavailableError(
            f"the NVIDIA driver does not answer ({error}); run nvidia-smi and see what it says"
        ) from error
    finally:
        nvml.nvmlShutdown()


def _handles(nvml: Any) -> list[Any]:
    return [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]


def _gpu(nvml: Any, handle: Any) -> Gpu:
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Gpu(
        name=_text(nvml.nvmlDeviceGetName(handle)),
        capability=f"{major}.{minor}",
        driver=_text(nvml.nvmlSystemGetDriverVersion()),
        memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
    )


def _text(value: str | bytes) -> str:
    """Older releases of the package answer in bytes."""
    return value.decode() if isinstance(value, bytes) else value


def _own_bytes(nvml: Any, handle: Any) -> int | None:
    """The memory that this process holds on a GPU; None where the driver names no such process or does not tell its memory."""
    for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
        if process.pid == os.getpid() and process.usedGpuMemory is not None:
            return int(process.usedGpuMemory)
    return None


def _reading(nvml: Any, handle: Any, own_bytes: int | None) -> GpuReading:
    reasons = int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    return GpuReading(
        used_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).used),
        own_bytes=own_bytes,
        sm_clock_mhz=int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
        memory_clock_mhz=int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)),
        held_back=reasons & ~nvml.nvmlClocksThrottleReasonGpuIdle,
    )
