"""What the machine counts while a run lasts: processor time, theft, throttling, swapping; read before and after, never during.

Linux tells it in /proc and /sys; what a platform does not tell is absent, never guessed. Readers take the `root` of the file
system, so that a test can give them another machine.
"""

import contextlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CPUS = Path("sys/devices/system/cpu")
"""Where the kernel tells of each processor, below the root."""
ROOT = Path("/")
_FREQUENCY = "frequency_mhz"
_MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""A control group's limit, use, and the row of its memory.stat with reclaimable pages: in version 2, and in 1."""


def affinity() -> tuple[int, ...]:
    """The numbers of the processors that this process may use; all of them where the platform has no affinity."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def spans(numbers: Sequence[int]) -> str:
    """Ascending numbers in short: 0-3 8 for 0, 1, 2, 3, 8."""
    ends = [n for i, n in enumerate(numbers) if i + 1 == len(numbers) or numbers[i + 1] != n + 1]
    starts = [n for i, n in enumerate(numbers) if i == 0 or numbers[i - 1] != n - 1]
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def quota(root: Path = ROOT) -> float | None:
    """How many processors' worth of time the tightest control group above this process allows; None: no bound."""
    allowed = []
    for group in _control_groups(root):
        limit, _, period = read_text(group / "cpu.max").partition(" ")
        if not period:
            limit, period = read_text(group / "cpu.cfs_quota_us"), read_text(group / "cpu.cfs_period_us")
        with contextlib.suppress(ValueError):  # "max", or no such file
            if int(limit) > 0:
                allowed.append(int(limit) / int(period))
    return min(allowed, default=None)


def spare_memory(root: Path = ROOT) -> int | None:
    """Bytes that the control groups above this process leave it, the least of them, at least 0; None: no bound.

    Pages of files that were not read lately count as used there, but are given back when memory is asked for.
    """
    spare = []
    for group in _control_groups(root, "memory"):
        for limit, used, cached in _MEMORY_FILES:
            bound = _numbers(group / name for name in (limit, used))
            if len(bound) == len((limit, used)):  # else "max", or no such file
                cache = _table(group / "memory.stat").get(cached, 0.0)
                spare.append(max(0, int(bound[0] - bound[1] + cache)))
    return min(spare, default=None)


def counters(children: Iterable[int], root: Path = ROOT) -> dict[str, float]:
    """Read what the machine counts up; two readings, before and after, tell what happened between them (`changes`).

    Read by the parent while no worker is measured. Of the usable processors alone: another's load does not take theirs.

        seconds                                  a clock that only goes forward
        busy_seconds, steal_seconds              processor time worked, and withheld by the host of a virtual machine
        own_seconds, major_faults                processor time of this process and its children, dead ones included;
                                                 pages that the children had to wait for a disk for
        quota_throttled, quota_throttled_seconds times that the control group's quota stopped its processes, and how long
        heat_throttled                           times that a core or its package slowed itself
        swapped_pages                            in and out
        frequency_mhz                            of the fastest processor: the one that worked last; no counter

    Args:
        children: process ids of the living children.
        root: the root of the file system.
    """
    return {
        "seconds": time.monotonic(),
        **_processor_seconds(root),
        **_of_processes(children, root),
        **_of_quota(root),
        **_of_heat(root),
        **_of_swap(root),
        **_of_frequency(root),
    }


def changes(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What was counted between two readings; of the frequency, the lower of the two."""
    both = [name for name in before if name in after]
    return {
        name: min(before[name], after[name]) if name == _FREQUENCY else round(after[name] - before[name], 6)
        for name in both
    }


def together(windows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Add up the changes of several windows; of the frequency, the lowest."""
    total: dict[str, float] = {}
    for window in windows:
        for name, value in window.items():
            seen = total.get(name)
            total[name] = value if seen is None else min(seen, value) if name == _FREQUENCY else seen + value
    return total


def processor_ticks(root: Path) -> dict[int, tuple[int, int]]:
    """Clock ticks that each processor has worked, and that the host of a virtual machine has withheld."""
    rows = [line.split() for line in read_text(root / "proc/stat").splitlines() if line.startswith("cpu")]
    times = {row[0].removeprefix("cpu"): [int(field) for field in row[1:]] for row in rows}
    # user nice system idle iowait irq softirq steal; a guest's time is within user already; the row "cpu" is of all
    return {int(name): (sum(each[:3]) + sum(each[5:7]), sum(each[7:8])) for name, each in times.items() if name}


def _processor_seconds(root: Path) -> dict[str, float]:
    usable = affinity()
    ticks = [each for number, each in processor_ticks(root).items() if number in usable]
    if not ticks:
        return {}
    busy, steal = (sum(each) / _ticks() for each in zip(*ticks, strict=True))
    return {"busy_seconds": busy, "steal_seconds": steal}


def _of_processes(children: Iterable[int], root: Path) -> dict[str, float]:
    """Living children count by themselves, dead ones in what the parent inherits of them, so that none is lost."""
    parent = _process(os.getpid(), root)
    if parent is None:
        return {}
    living = [found for found in (_process(child, root) for child in children) if found is not None]
    return {
        "own_seconds": sum(each.ticks for each in (parent, *living)) / _ticks(),
        "major_faults": float(parent.inherited_faults + sum(each.faults + each.inherited_faults for each in living)),
    }


@dataclass(frozen=True)
class _Process:
    """Processor time in ticks, its dead children's included; its own page faults that a disk had to serve, and theirs."""

    ticks: int
    faults: int
    inherited_faults: int


def _process(number: int, root: Path) -> _Process | None:
    """Read /proc/<pid>/stat, whose second field, the name, may hold blanks and brackets; proc(5) numbers the fields."""
    fields = read_text(root / "proc" / str(number) / "stat").rpartition(")")[2].split()
    if not fields:
        return None
    major, inherited = int(fields[9]), int(fields[10])
    return _Process(sum(int(field) for field in fields[11:15]), major, inherited)


def _of_quota(root: Path) -> dict[str, float]:
    """The throttling of every control group above this process (cgroup v2: microseconds; v1: nanoseconds)."""
    found: dict[str, float] = {}
    units = {"nr_throttled": ("", 1.0), "throttled_usec": ("_seconds", 1e6), "throttled_time": ("_seconds", 1e9)}
    for group in _control_groups(root):
        for name, value in _table(group / "cpu.stat").items():
            if name in units:
                suffix, unit = units[name]
                found[f"quota_throttled{suffix}"] = found.get(f"quota_throttled{suffix}", 0.0) + value / unit
    return found


def _of_heat(root: Path) -> dict[str, float]:
    """Cores count each for itself; every core shows its package's count, so of these the highest is taken."""
    folders = [root / CPUS / f"cpu{number}" / "thermal_throttle" for number in affinity()]
    cores = _numbers(folder / "core_throttle_count" for folder in folders)
    packages = _numbers(folder / "package_throttle_count" for folder in folders)
    return {"heat_throttled": sum(cores) + max(packages, default=0.0)} if cores or packages else {}


def _of_swap(root: Path) -> dict[str, float]:
    table = _table(root / "proc/vmstat")
    return {"swapped_pages": table["pswpin"] + table["pswpout"]} if {"pswpin", "pswpout"} <= table.keys() else {}


def _of_frequency(root: Path) -> dict[str, float]:
    kilohertz = _numbers(root / CPUS / f"cpu{number}/cpufreq/scaling_cur_freq" for number in affinity())
    return {_FREQUENCY: max(kilohertz) / 1e3} if kilohertz else {}


def _control_groups(root: Path, controller: str = "cpu") -> list[Path]:
    """The folders of this process's control group (in version 1: the controller's) and of every one above it, where seen."""
    folders = []
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / (controller if controllers else "")
        own = Path(path.lstrip("/"))
        folders += [base / each for each in (own, *own.parents)]
    return folders


def _ticks() -> int:
    """Clock ticks a second: the unit of processor time in /proc."""
    return os.sysconf("SC_CLK_TCK")


def _table(path: Path) -> dict[str, float]:
    """A file of `name number` lines."""
    rows = (line.split() for line in read_text(path).splitlines())
    return {row[0]: float(row[1]) for row in rows if len(row) == len(("name", "number"))}


def _numbers(paths: Iterable[Path]) -> list[float]:
    """The number in each of the files that can be read."""
    texts = (read_text(path).strip() for path in paths)
    return [float(text) for text in texts if text.isdigit()]


def read_text(path: Path) -> str:
    """A file of the kernel's, empty where this platform lacks it."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
