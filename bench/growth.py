"""Memory that a variant keeps from call to call: told as a sentence, from the journal's facts of each worker."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from .samples import CONTROL

LEAST_GROWTH_BYTES = 16 * 2**20
"""What a process may gain after its warm-up without a word: allocators and late buffers take some megabytes."""
LEAST_GROWTH_RATIO = 2.0
"""A candidate is told of where it grows by more than this factor of what the baseline grows by on the same calls."""


@dataclass(frozen=True)
class _Growth:
    """Bytes gained between the warm-up and the end of a replicate, and the calls in between; medians over replicates."""

    bytes: float
    calls: float


def growth_sentences(events: Sequence[Mapping[str, Any]], baseline: str) -> Iterator[str]:
    """Tell of each variant that grew in most replicates, by much, and by more than the baseline did."""
    grown = _growths(events)
    usual = grown[baseline].bytes if baseline in grown else 0.0
    for name, growth in grown.items():
        allowed = float(LEAST_GROWTH_BYTES)
        if name != baseline:
            allowed = max(allowed, LEAST_GROWTH_RATIO * usual)
        if name == CONTROL or growth.bytes <= allowed:
            continue
        beside = "" if name == baseline else f" ({baseline} by {_megabytes(max(0.0, usual))})"
        yield (
            f"{name} grew by {_megabytes(growth.bytes)} over {growth.calls:.0f} calls of a replicate{beside}: "
            "it may leak memory; look for what it keeps from call to call."
        )


def _growths(events: Sequence[Mapping[str, Any]]) -> dict[str, _Growth]:
    """The growth of each variant; journals of before this was recorded give none."""
    facts: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    for event in events:
        if event["event"] == "replicate":
            for name, worker in event["workers"].items():
                if "warm_bytes" in worker:
                    facts[name].append(worker)
    return {
        name: _Growth(
            median(worker["resident_bytes"] - worker["warm_bytes"] for worker in workers),
            median(worker["calls"] for worker in workers),
        )
        for name, workers in facts.items()
    }


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.0f} MB"
