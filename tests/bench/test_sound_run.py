"""Journals and descriptions of machines of others: refused with the line and the place, before anything is derived from them."""

from typing import Any

import pytest
from weighbridge.bench.sound_run import need_sound_environment, need_sound_events

WORKER = {"peak_bytes": 1e8, "load_ms": 5.0, "affinity": [0, 1], "threads": 1}
EVENTS: list[dict[str, Any]] = [
    {"event": "prepared", "kind": "classifier", "class_names": ["a", "b"], "notices": [], "later": 1},
    {"event": "built", "variant": "base", "status": "ok", "reason": "", "note": ""},
    {"event": "checked", "variant": "base", "failure": "", "near_ties": [{"prompt": 1, "place": 2, "margin": 1e-5}]},
    {"event": "plan", "replicates": 4, "seconds_per_replicate": 1.0, "percentile_seconds": 0.0},
    {"event": "replicate", "number": 1, "failed": {}, "workers": {"base": WORKER}, "machine": {"seconds": 2.0}},
    {"event": "of a later release"},
]


def test_sound_events_pass() -> None:
    """Every event of a run passes, with parts and kinds that this release does not know."""
    need_sound_events(EVENTS)


@pytest.mark.parametrize(
    ("line", "change", "sentence"),
    [
        (1, {"class_names": "ab"}, "line 1 of the journal: class_names: Input should be a valid tuple"),
        (2, {"status": "fine"}, "line 2 of the journal: status: Input should be 'ok', 'unavailable' or 'failed'"),
        (3, {"failure": None}, "line 3 of the journal: failure: Input should be a valid string"),
        (3, {"near_ties": [{}]}, r"line 3 of the journal: near_ties\.0\.prompt: Field required"),
        (4, {"replicates": "many"}, "line 4 of the journal: replicates: Input should be a valid integer"),
        (5, {"workers": {"base": {"load_ms": 1}}}, r"line 5 of the journal: workers\.base\.peak_bytes: Field required"),
        (5, {"workers": {"base": {**WORKER, "warm_bytes": 1}}}, r"workers\.base holds warm_bytes without"),
        (5, {"machine": {"busy_seconds": 1.0}}, "line 5 of the journal: machine holds no seconds"),
        (6, {"event": 7}, "line 6 of the journal: event: Input should be a valid string"),
    ],
)
def test_an_event_that_lacks_something_is_told_with_its_line(line: int, change: dict[str, Any], sentence: str) -> None:
    """What deriving looks at must be there and of its type; the sentence names line and place."""
    events = [{**event, **change} if number == line else event for number, event in enumerate(EVENTS, 1)]
    with pytest.raises(ValueError, match=sentence):
        need_sound_events(events)


def test_a_line_that_is_no_event_is_told() -> None:
    """A number where an event is meant is refused."""
    with pytest.raises(ValueError, match="line 2 of the journal: Input should be a dictionary"):
        need_sound_events([EVENTS[0], 5])


def test_a_machine_is_described_by_what_is_looked_at() -> None:
    """A description passes with whatever else it holds; one whose cores are no number does not."""
    described = {"cores": 2, "versions": {"numpy": "2"}, "processor_quota": None, "later": []}
    assert need_sound_environment(described) is described
    with pytest.raises(ValueError, match="cores: Input should be a valid integer"):
        need_sound_environment({"cores": "two"})
