"""From what was counted in each replicate to sentences: what disturbed it, by how much, and what to do.

No sample is removed for it. A ratio is taken within a replicate, where both sides were disturbed in turn, so that what is told
here makes intervals wider, not verdicts wrong. Thresholds stand where a disturbance begins to matter beside a quiet machine.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .counters import spans

_LEAST_SECONDS = 0.2
"""The kernel counts processor time in ticks of 10 ms, a process: in a shorter window a few of them would look like a load."""
_OTHERS_SHARE = 0.1
"""Of the usable processors: above it, other work stands in the way of a worker in one visit of ten. Idle systems take 0.01."""
_STEAL_SHARE = 0.02
"""Of one processor: a visit of 10 ms that loses 2 % of it to the host is off by as much as a rule's usual margin."""
_SWAPPED_PAGES = 256
"""A megabyte; a machine that does not swap shows 0."""
_MAJOR_FAULTS = 100
"""After the warm-up nothing should come from the disk any more; a library's late page or two is no matter."""
_FREQUENCY_SHARE = 0.9
"""A replicate clocked lower than this part of the fastest one took calls that are a tenth longer."""

Window = Mapping[str, float]


def disturbances(replicates: Sequence[Mapping[str, Any]], cores: int) -> list[str]:
    """Sentences about what disturbed a run, from its journal's replicate events; empty where nothing mattered.

    Args:
        replicates: the events; `machine` holds what `counters.changes` gave, `workers` the facts of each process by variant.
        cores: processors that the run might use.
    """
    windows = [each["machine"] for each in replicates if each.get("machine")]
    return [
        *_other_work(windows, cores),
        *_steal(windows),
        *_quota(windows),
        *_heat(windows),
        *_swapping(windows),
        *_faults(windows),
        *_frequency(windows),
        *unequal_workers(replicates),
    ]


def other_work(window: Window) -> float:
    """Processors taken by others: time worked that is neither the run's parent's nor its workers', a second of the window."""
    if "busy_seconds" not in window or "own_seconds" not in window or window["seconds"] < _LEAST_SECONDS:
        return 0.0
    return max(0.0, window["busy_seconds"] - window["own_seconds"]) / window["seconds"]


def stolen(window: Window) -> float:
    """Processor time withheld by the host, a second of the window."""
    if window["seconds"] < _LEAST_SECONDS:
        return 0.0
    return window.get("steal_seconds", 0.0) / window["seconds"]


def unequal_workers(replicates: Sequence[Mapping[str, Any]]) -> list[str]:
    """What to say where variants had different processors or thread counts, which they must have in common."""
    sentences = []
    for fact, words in (("affinity", "processors"), ("threads", "threads")):
        seen: dict[str, list[str]] = {}
        for event in replicates:
            for variant, facts in event["workers"].items():
                if fact in facts:
                    names = seen.setdefault(_shown(facts[fact]), [])
                    names += [variant] if variant not in names else []
        if len(seen) > 1:
            parts = "; ".join(f"{', '.join(names)}: {value}" for value, names in seen.items())
            sentences.append(
                f"The variants did not have the same {words} ({parts}): they are not comparable; leave the affinity and "
                "thread settings alone while a run lasts, and weigh again."
            )
    return sentences


def _other_work(windows: Sequence[Window], cores: int) -> Iterator[str]:
    taken = [share for share in map(other_work, windows) if share > _OTHERS_SHARE * cores]
    if taken:
        yield (
            f"{_in(taken, windows)} other work took {_processors(_mean(taken))}: intervals are wider for it; stop it or "
            "give more time."
        )


def _steal(windows: Sequence[Window]) -> Iterator[str]:
    taken = [share for share in map(stolen, windows) if share > _STEAL_SHARE]
    if taken:
        yield (
            f"{_in(taken, windows)} the host of this virtual machine withheld {_processors(_mean(taken))} (steal): "
            "intervals are wider for it; give more time, or weigh on a machine with processors of its own."
        )


def _quota(windows: Sequence[Window]) -> Iterator[str]:
    stops = _above(0, windows, "quota_throttled")
    if stops:
        seconds = sum(window.get("quota_throttled_seconds", 0.0) for window in windows)
        yield (
            f"{_in(stops, windows)} the control group's processor quota stopped its processes {sum(stops):.0f} times "
            f"({seconds:.2g} s): p95 and above measure the quota; raise it (docker: --cpus), or set measure.threads lower."
        )


def _heat(windows: Sequence[Window]) -> Iterator[str]:
    slowed = _above(0, windows, "heat_throttled")
    if slowed:
        yield (
            f"{_in(slowed, windows)} the processor slowed itself {sum(slowed):.0f} times against heat or power limits: "
            "absolute times are too long; cool it, or let it rest before the run."
        )


def _swapping(windows: Sequence[Window]) -> Iterator[str]:
    pages = _above(_SWAPPED_PAGES, windows, "swapped_pages")
    if pages:
        yield (
            f"{_in(pages, windows)} the machine swapped, {sum(pages):.0f} pages in all: give it memory, or weigh fewer "
            "variants at once."
        )


def _faults(windows: Sequence[Window]) -> Iterator[str]:
    faults = _above(_MAJOR_FAULTS, windows, "major_faults")
    if faults:
        yield (
            f"{_in(faults, windows)} workers waited for the disk for {sum(faults):.0f} pages while they were timed (major "
            "faults): memory is short; free some, or weigh fewer variants at once."
        )


def _frequency(windows: Sequence[Window]) -> Iterator[str]:
    clocks = [window["frequency_mhz"] for window in windows if "frequency_mhz" in window]
    slow = [clock for clock in clocks if clock < _FREQUENCY_SHARE * max(clocks)]
    if slow:
        yield (
            f"{_in(slow, clocks)} the processor ran at {min(slow):.0f} MHz and up, in others at {max(clocks):.0f} MHz: ratios "
            "hold, absolute times vary with it; fix the frequency (`cpupower frequency-set`) where these matter."
        )


def _above(threshold: float, windows: Sequence[Window], name: str) -> list[float]:
    return [window[name] for window in windows if window.get(name, 0.0) > threshold]


def _in(affected: Sequence[float], windows: Sequence[object]) -> str:
    return f"In {len(affected)} of {len(windows)} replicates"


def _processors(share: float) -> str:
    return f"{100 * share:.0f} % of a processor" if share < 1 else f"{share:.1f} processors"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _shown(value: Any) -> str:
    return spans(value) if isinstance(value, list) else str(value)
