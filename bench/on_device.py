"""What a GPU itself tells of a variant: its own time for a call, the copies, its memory and its clocks; told beside the latencies.

Latencies are the host's time of a call whose inputs and outputs lie on the GPU. People take the device's time, or the time with
copies, for a latency; so all three are told, once, before the weighing, and are judged by no rule.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..optimize.backends.base import OnDevice
from ..optimize.errors import UnavailableError
from ..optimize.nvml import read_gpu

CALLS = 20
_MIB = 2**20

DeviceFacts = dict[str, Any]
"""`times`: of each shape, by its key, the DeviceTimes; `gpu`: a GpuReading, or None; `why`: why there is none. Empty on a CPU."""


def device_facts(opened: Any, inputs: Mapping[str, Any], provider: str | None) -> DeviceFacts:
    """Ask the device of an opened variant; nothing where it runs on the CPU.

    Args:
        opened: the opened variant, warm.
        inputs: loaded inputs of each shape, by its key.
        provider: the execution provider that was asked for.
    """
    tells_times = isinstance(opened, OnDevice)
    if not tells_times and provider in (None, "cpu"):
        return {}
    times = {key: asdict(opened.device_times(tensors, CALLS)) for key, tensors in inputs.items()} if tells_times else {}
    reading, why = None, "of several GPUs none tells of this process"
    try:
        reading = read_gpu()
    except UnavailableError as error:
        why = str(error)
    return {"times": times, "gpu": asdict(reading) if reading else None, "why": "" if reading else why}


def device_sentences(name: str, facts: DeviceFacts) -> list[str]:
    """What the device tells of a variant, in words: a sentence a shape, and one on memory and clocks."""
    if not facts:
        return []
    return [*(_times_sentence(name, key, times) for key, times in facts["times"].items()), _gpu_sentence(name, facts)]


def _times_sentence(name: str, key: str, times: Mapping[str, float]) -> str:
    shape = ", ".join(f"{condition} {value}" for condition, value in json.loads(key).items())
    return (
        f"{name} at {shape}: {times['host_ms']:.3f} ms a call by the host's clock, of which the GPU works {times['device_ms']:.3f} ms; "
        f"copies, which latencies do not count: {times['copy_in_ms']:.3f} ms in, {times['copy_out_ms']:.3f} ms out."
    )


def _gpu_sentence(name: str, facts: DeviceFacts) -> str:
    gpu = facts["gpu"]
    if gpu is None:
        return f"{name}: memory and clocks of the GPU are not known: {facts['why']}."
    own = "" if gpu["own_bytes"] is None else f", {gpu['own_bytes'] / _MIB:.0f} MiB of it by this variant"
    held = f"; clocks are held back (driver's reasons {gpu['held_back']:#x})" if gpu["held_back"] else ""
    return (
        f"{name}: {gpu['used_bytes'] / _MIB:.0f} MiB of the GPU's memory in use{own}; "
        f"clocks {gpu['sm_clock_mhz']} MHz (SM), {gpu['memory_clock_mhz']} MHz (memory){held}."
    )
