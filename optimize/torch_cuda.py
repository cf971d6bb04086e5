"""PyTorch on a CUDA device: FP32 that is FP32, sparse tensor cores where weights fit them, and the device's own clock."""

import statistics
import time
from collections.abc import Callable
from typing import Any

from .backends.base import DeviceTimes
from .semi_structured import use_sparse_tensor_cores


def on_cuda(module: Any) -> Any:
    """The module on the device, in evaluation mode; products in FP32 are not rounded to TF32 in this process from now on."""
    import torch

    backends: Any = torch.backends  # the setting is not in torch's own types
    backends.fp32_precision = "ieee"
    module = module.eval().to("cuda")
    use_sparse_tensor_cores(module)
    return module


def device_times(call: Callable[[], Any], inputs: list[Any], calls: int) -> DeviceTimes:
    """Medians of `calls` calls: by the host's clock, by events around the work, and of copying by events.

    Args:
        call: runs the module on `inputs` without waiting and returns its output tensors.
        inputs: tensors on the device.
        calls: how many of each are taken.
    """
    import torch

    device = inputs[0].device
    hosts = [tensor.cpu() for tensor in inputs]
    outputs = call()
    waited = [_waited(call) for _ in range(calls)]
    work = [_between_events(call) for _ in range(calls)]
    copies_in = [_between_events(lambda: [tensor.to(device) for tensor in hosts]) for _ in range(calls)]
    copies_out = [_between_events(lambda: [tensor.cpu() for tensor in outputs]) for _ in range(calls)]
    torch.cuda.synchronize()
    return DeviceTimes(*(statistics.median(each) for each in (waited, work, copies_in, copies_out)))


def _waited(call: Callable[[], Any]) -> float:
    """Milliseconds of a call by the host's clock, until the device is done."""
    import torch

    start = time.perf_counter_ns()
    call()
    torch.cuda.synchronize()
    return (time.perf_counter_ns() - start) / 1e6


def _between_events(work: Callable[[], Any]) -> float:
    """Milliseconds on the device between an event before some work and one after it."""
    import torch

    cuda: Any = torch.cuda  # its events have no types
    first, last = (cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    work()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last))
