"""The sentence on memory that grows: who is told of, and who is not."""

from typing import Any

import pytest
from weighbridge.bench.growth import growth_sentences
from weighbridge.bench.samples import CONTROL

MEGABYTE = 1_000_000


def replicate(**grown: int) -> dict[str, Any]:
    """A replicate in which each worker held 100 MB when warm and grew by so many bytes over 390 calls."""
    workers = {
        name.replace("control", CONTROL): {
            "warm_bytes": 100 * MEGABYTE,
            "resident_bytes": 100 * MEGABYTE + by,
            "calls": 390,
        }
        for name, by in grown.items()
    }
    return {"event": "replicate", "workers": workers}


def told(*events: dict[str, Any]) -> list[str]:
    return list(growth_sentences(events, "base"))


def test_growth_is_told_with_its_size_its_calls_and_the_baseline_beside_it() -> None:
    """210 MB over 390 calls, where the baseline grew by 1 MB, is one sentence with those numbers."""
    (sentence,) = told(*[replicate(base=MEGABYTE, leaky=210 * MEGABYTE, steady=0)] * 4)
    assert sentence.startswith("leaky grew by 210 MB over 390 calls of a replicate (base by 1 MB): it may leak memory")


@pytest.mark.parametrize(
    ("base", "candidate", "flagged"),
    [(0, 16 * 2**20, False), (0, 16 * 2**20 + 1, True), (50 * MEGABYTE, 100 * MEGABYTE, False)],
)
def test_the_threshold_is_absolute_and_relative(base: int, candidate: int, flagged: bool) -> None:
    """16 MiB are allowed, a byte more is not; nor is twice the baseline's own growth told of."""
    sentences = told(replicate(base=base, a=candidate))
    assert any(each.startswith("a grew") for each in sentences) == flagged


def test_a_baseline_that_grows_is_told_of_itself_and_its_twin_is_not() -> None:
    """The baseline is held to the absolute threshold; its twin would only say the same again."""
    (sentence,) = told(replicate(base=50 * MEGABYTE, control=50 * MEGABYTE, a=0))
    assert sentence.startswith("base grew by 50 MB over 390 calls of a replicate: it may leak")


def test_one_late_allocation_is_no_leak() -> None:
    """A variant that grew in one replicate of five, or shrank, is not told of."""
    events = [replicate(base=0, a=0)] * 4 + [replicate(base=0, a=200 * MEGABYTE, b=-50 * MEGABYTE)]
    assert told(*events) == []


def test_journals_without_the_facts_tell_nothing() -> None:
    """Runs of before memory was recorded after the warm-up, and other events, give no sentence."""
    assert told({"event": "plan"}, {"event": "replicate", "workers": {"base": {"peak_bytes": 1.0}}}) == []
