"""What NVML tells of GPUs, and what is said where it tells nothing."""

import sys
from typing import Any

import pytest
from weighbridge.optimize.errors import UnavailableError
from weighbridge.optimize.nvml import Gpu, GpuReading, gpu_at, gpus, read_gpu

MIB = 1 << 20
READING = GpuReading(used_bytes=2048 * MIB, own_bytes=512 * MIB, sm_clock_mhz=1980, memory_clock_mhz=2619, held_back=0)


def test_gpus_are_named(gpu_machine: Any) -> None:
    """Every GPU has its name, capability, driver and memory; the library is closed again."""
    gpu_machine.nvml._count = 2
    expected = [Gpu(f"Paper GPU {number}", "9.0", "580.65.06", 80 * 1024 * MIB) for number in range(2)]
    assert list(gpus()) == expected
    assert gpu_at("0000:65:00.0") == expected[0]
    assert gpu_machine.nvml._open == 0


def test_a_reading_is_of_the_gpu_that_this_process_is_on(gpu_machine: Any) -> None:
    """Of several GPUs that one is read on which this process holds memory; idleness is no reason for low clocks."""
    gpu_machine.nvml._count = 4
    assert read_gpu() == READING


def test_in_a_container_only_a_single_gpu_is_surely_the_right_one(gpu_machine: Any) -> None:
    """Where the driver knows no such process, one GPU is read without this process's memory, and of several none."""
    gpu_machine.nvml._processes = ((1, 1 << 30),)
    reading = read_gpu()
    assert reading is not None
    assert (reading.own_bytes, reading.sm_clock_mhz) == (None, 1980)
    gpu_machine.nvml._count = 2
    assert read_gpu() is None


def test_clocks_that_are_held_back_are_told(gpu_machine: Any) -> None:
    """A power cap (bit 4 of the driver's mask) stays in the reading, idleness (bit 1) does not."""
    gpu_machine.nvml._reasons = 4 | 1
    reading = read_gpu()
    assert reading is not None
    assert reading.held_back == 4


def test_what_is_missing_is_said(gpu_machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No package, no driver and a driver that does not answer are three reasons, each with what would help."""
    with pytest.raises(UnavailableError, match=r"does not answer \(Not Found\); run nvidia-smi"):
        gpu_at("0000:00:00.0")
    assert gpu_machine.nvml._open == 0

    def no_library() -> None:
        raise gpu_machine.nvml.NVMLError("NVML Shared Library Not Found")

    monkeypatch.setattr(gpu_machine.nvml, "nvmlInit", no_library)
    with pytest.raises(
        UnavailableError, match=r"no NVIDIA driver was found \(NVML Shared Library Not Found\).*install"
    ):
        gpus()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(UnavailableError, match=r"nvidia-ml-py is not installed. .*pip install nvidia-ml-py"):
        gpus()
