"""PyTorch on a GPU, as far as it can be seen without one: what is waited for, and which times are told apart."""

from typing import Any

import numpy as np
import pytest
from weighbridge.optimize.backends.base import DeviceTimes, OnDevice
from weighbridge.optimize.backends.torch_backend import TorchCudaPredictor, TorchPredictor
from weighbridge.optimize.model import Signature, TensorSpec

SIGNATURE = Signature("classifier", (TensorSpec("input", "float32", ("batch", 4)),), ("logits",))


class PaperDevice:
    """Takes 5 ms for each call of the module, and counts how often it is waited for; its clock is read by events."""

    def __init__(self) -> None:
        self.now, self.waits = 0.0, 0
        self.order: list[str] = []

    def work(self, *_: Any) -> None:
        self.now += 5.0
        self.order.append("module")

    def synchronize(self) -> None:
        self.waits += 1
        self.order.append("wait")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> PaperDevice:
    """The paper device in the place of torch.cuda's waiting and events."""
    import torch

    paper = PaperDevice()

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing
            self.at = -1.0

        def record(self) -> None:
            self.at = paper.now

        def synchronize(self) -> None:
            assert self.at >= 0

        def elapsed_time(self, end: "Event") -> float:
            return end.at - self.at

    monkeypatch.setattr(torch.cuda, "synchronize", paper.synchronize)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    return paper


@pytest.fixture
def predictor(device: PaperDevice) -> TorchCudaPredictor:
    """A linear layer, opened as on a GPU but lying on the CPU."""
    import torch

    module = torch.nn.Linear(4, 3)
    module.register_forward_hook(device.work)
    return TorchCudaPredictor(module, SIGNATURE, "cpu")


def test_a_call_on_the_gpu_waits_for_it(predictor: TorchCudaPredictor, device: PaperDevice) -> None:
    """The device is waited for after the module was called, once a call."""
    loaded = predictor.load({"input": np.zeros((2, 4), np.float32)})
    assert predictor.arrays(predictor.infer(loaded))["logits"].shape == (2, 3)
    predictor.infer(loaded)
    assert device.order == ["module", "wait"] * 2


def test_the_devices_time_is_by_events(
    predictor: TorchCudaPredictor, device: PaperDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device takes 5 ms a call and nothing for copies, whatever the host's clock says of a call that it waits for."""
    from weighbridge.optimize import torch_cuda

    ticks = iter(range(0, 10**10, 7_000_000))
    monkeypatch.setattr(torch_cuda.time, "perf_counter_ns", lambda: next(ticks))
    times = predictor.device_times(predictor.load({"input": np.zeros((2, 4), np.float32)}), 3)
    assert times == DeviceTimes(host_ms=7.0, device_ms=5.0, copy_in_ms=0.0, copy_out_ms=0.0)
    assert device.waits == 3 + 1
    assert isinstance(predictor, OnDevice)
    assert not issubclass(TorchPredictor, OnDevice)


def test_fp32_products_are_not_rounded_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening on CUDA switches TF32 off for the process and moves the module there."""
    import torch
    from weighbridge.optimize.torch_cuda import on_cuda

    moved: list[Any] = []

    class Module(torch.nn.Linear):
        def to(self, where: Any) -> "Module":
            moved.append(where)
            return self

    monkeypatch.setattr(torch.backends, "fp32_precision", "tf32")
    module = on_cuda(Module(2, 2).train())
    assert torch.backends.fp32_precision == "ieee"
    assert (moved, module.training) == (["cuda"], False)
