"""The processor that calls are made on: the same for all variants, and none but that one.

A process that is free to move is given another processor at every visit, and on a shared machine no two are as fast: what runs
beside each on the host differs. The difference would be counted as the variant's. Measured in docs/weighing.md.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from .counters import CPUS, ROOT, affinity, processor_ticks, read_text

_NODES = Path("sys/devices/system/node")
_GLANCE_S = 0.1


def idlest(turn: int = 0, *, root: Path = ROOT, sleep: Callable[[float], None] = time.sleep) -> int | None:
    """The usable processor that is least busy for a tenth of a second; None where there is no choice, or none can be taken.

    Of unlike processors the fastest are asked alone (cpuinfo_max_freq); hardware threads of a core count for each other. Of
    equally idle ones it is another with every `turn`: what is peculiar to one processor is no part of every replicate.
    """
    usable = affinity()
    if len(usable) == 1 or not _may_choose(usable):
        return None
    fastest = max(_speed(number, root) for number in usable)
    order = [usable[(turn + place) % len(usable)] for place in range(len(usable))]
    before = processor_ticks(root)
    sleep(_GLANCE_S)
    taken = {number: sum(ticks) - sum(before.get(number, ())) for number, ticks in processor_ticks(root).items()}

    def load(number: int) -> tuple[int, int]:
        return sum(taken.get(each, 0) for each in _threads_of_core(number, root)), taken.get(number, 0)

    return min((number for number in order if _speed(number, root) == fastest), key=load)


def near(number: int, *, root: Path = ROOT) -> tuple[int, ...]:
    """The usable processors of the same memory node: what a process loads on them lies near this one. All, where none is told."""
    texts = (read_text(path) for path in (root / _NODES).glob("node*/cpulist"))
    node = next((found for found in map(_numbers, texts) if number in found), set(affinity()))
    return tuple(each for each in affinity() if each in node)


def run_on(processors: Iterable[int]) -> None:
    """Let every thread of this process run on these processors alone; threads it starts later inherit it."""
    wanted = set(processors)
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has ended since
            os.sched_setaffinity(int(thread.name), wanted)


def _may_choose(usable: tuple[int, ...]) -> bool:
    """Whether the system lets a process choose: asked by choosing what is allowed anyway."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    try:
        os.sched_setaffinity(0, set(usable))
    except OSError:
        return False
    return True


def _speed(number: int, root: Path) -> int:
    """The highest frequency of a processor in kHz; 0 where the system does not tell."""
    text = read_text(root / CPUS / f"cpu{number}/cpufreq/cpuinfo_max_freq").strip()
    return int(text) if text.isdigit() else 0


def _threads_of_core(number: int, root: Path) -> set[int]:
    """The processors that share a core with this one, itself included."""
    return {number} | _numbers(read_text(root / CPUS / f"cpu{number}/topology/thread_siblings_list"))


def _numbers(text: str) -> set[int]:
    """The numbers of a list as the kernel writes it: 0-2,8."""
    ends = (part.partition("-") for part in text.strip().split(",") if part[:1].isdigit())
    return {number for first, _, last in ends for number in range(int(first), int(last or first) + 1)}
