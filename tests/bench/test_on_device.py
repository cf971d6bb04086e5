"""What a GPU tells of a variant: asked only where there is one, and told in words that keep the three times apart."""

from typing import Any

import pytest
from weighbridge.bench import on_device
from weighbridge.bench.on_device import CALLS, device_facts, device_sentences
from weighbridge.bench.worker import Weigher
from weighbridge.optimize.backends.base import DeviceTimes
from weighbridge.optimize.errors import UnavailableError
from weighbridge.optimize.nvml import GpuReading

TIMES = DeviceTimes(host_ms=0.5, device_ms=0.4, copy_in_ms=0.02, copy_out_ms=0.01)
READING = GpuReading(used_bytes=2 << 30, own_bytes=512 << 20, sm_clock_mhz=1980, memory_clock_mhz=2619, held_back=0)
KEY = '{"batch_size":8,"sequence_length":32}'


class OnGpu:
    """An opened variant whose device takes 0.4 ms a call."""

    def device_times(self, tensors: Any, calls: int) -> DeviceTimes:
        assert (tensors, calls) == ("loaded", CALLS)
        return TIMES


def read(reading: GpuReading | None) -> Any:
    """A stand-in for a look at the GPU."""
    return lambda: reading


def test_a_variant_on_the_cpu_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing runs on a device no GPU is looked at, and nothing is told."""
    monkeypatch.setattr(on_device, "read_gpu", lambda: pytest.fail("a GPU was looked at"))
    assert device_facts(object(), {KEY: "loaded"}, None) == {}
    assert device_facts(object(), {KEY: "loaded"}, "cpu") == {}
    assert device_sentences("ort", {}) == []


def test_times_and_the_gpu_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host, device and copies have each their number; memory is told in all and of this variant; clocks in MHz."""
    monkeypatch.setattr(on_device, "read_gpu", read(READING))
    facts = device_facts(OnGpu(), {KEY: "loaded"}, None)
    assert device_sentences("trt-fp16", facts) == [
        (
            "trt-fp16 at batch_size 8, sequence_length 32: 0.500 ms a call by the host's clock, of which the GPU works 0.400 ms; "
            "copies, which latencies do not count: 0.020 ms in, 0.010 ms out."
        ),
        "trt-fp16: 2048 MiB of the GPU's memory in use, 512 MiB of it by this variant; clocks 1980 MHz (SM), 2619 MHz (memory).",
    ]


def test_a_provider_without_a_clock_of_its_own_tells_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime on CUDA has no events: memory and clocks alone are told, and reasons that hold clocks back."""
    capped = GpuReading(used_bytes=1 << 30, own_bytes=None, sm_clock_mhz=900, memory_clock_mhz=2619, held_back=4)
    monkeypatch.setattr(on_device, "read_gpu", read(capped))
    (sentence,) = device_sentences("ort", device_facts(object(), {KEY: "loaded"}, "cuda"))
    assert sentence == (
        "ort: 1024 MiB of the GPU's memory in use; clocks 900 MHz (SM), 2619 MHz (memory); clocks are held back "
        "(driver's reasons 0x4)."
    )


def test_what_the_driver_does_not_tell_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """No NVML and no reading of this process are reasons in the sentence, and cost the variant nothing."""

    def missing() -> None:
        raise UnavailableError("nvidia-ml-py is not installed")

    monkeypatch.setattr(on_device, "read_gpu", missing)
    sentences = device_sentences("trt", device_facts(OnGpu(), {KEY: "loaded"}, None))
    assert sentences[-1] == "trt: memory and clocks of the GPU are not known: nvidia-ml-py is not installed."
    monkeypatch.setattr(on_device, "read_gpu", read(None))
    sentences = device_sentences("trt", device_facts(OnGpu(), {KEY: "loaded"}, None))
    assert sentences[-1].endswith("not known: of several GPUs none tells of this process.")


def test_the_worker_asks_at_every_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """A weighing process asks the device of its opened variant with the first inputs of each shape that it has loaded."""
    monkeypatch.setattr(on_device, "read_gpu", read(READING))
    weigher = Weigher(opened=OnGpu(), provider="cuda", shapes={KEY: ({}, ["loaded", "others"])})
    facts = weigher.device()
    assert facts["times"] == {KEY: {"host_ms": 0.5, "device_ms": 0.4, "copy_in_ms": 0.02, "copy_out_ms": 0.01}}
    assert facts["gpu"]["sm_clock_mhz"] == 1980
    assert Weigher(opened=object(), shapes={KEY: ({}, ["loaded"])}).device() == {}
