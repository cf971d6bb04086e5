"""Who waits does not work: beside a measured process nobody uses the processor."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil
from weighbridge.bench.child import Child
from weighbridge.bench.workloads.base import Prepared

FakeVariant = Callable[..., Path]
SHAPE = {"batch_size": 1, "threads": 1}


def processor_seconds(number: int) -> float:
    """User and system time of a process so far."""
    times = psutil.Process(number).cpu_times()
    return times.user + times.system


def opened(child: Child, folder: Path, prepared: Prepared) -> None:
    """Have a worker open a variant, load its inputs and warm up."""
    child.call("open", {"variant": str(folder), "threads": 1, "provider": None}, timeout=60)
    child.call("shape", {"key": "k", "prepared": str(prepared.folder), "conditions": SHAPE}, timeout=60)


def test_neither_the_parent_nor_a_waiting_worker_works(
    tmp_path: Path, fake_variant: FakeVariant, fake_workload: Prepared
) -> None:
    """While one worker's calls last a real second, its parent and a worker that waits for its turn use a tenth at most."""
    with Child("measured") as measured, Child("waiting") as waiting:
        opened(measured, fake_variant(tmp_path / "measured", real_ms=100.0), fake_workload)
        opened(waiting, fake_variant(tmp_path / "waiting"), fake_workload)
        start, parent, other = time.monotonic(), time.process_time(), processor_seconds(waiting.pid)
        answer = measured.call("visit", {"key": "k", "start": 0, "calls": 10}, timeout=60)
        assert time.monotonic() - start >= 1.0
        assert time.process_time() - parent < 0.1
        assert processor_seconds(waiting.pid) - other < 0.1
    assert len(answer["calls"]) == 10
