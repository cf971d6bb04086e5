"""From counts to sentences: given numbers in, what mattered, how much, and what to do, out."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from weighbridge.bench import Options, run
from weighbridge.bench.config import parse_config
from weighbridge.bench.counters import affinity
from weighbridge.bench.derive import derive
from weighbridge.bench.disturbance import disturbances, other_work, unequal_workers
from weighbridge.bench.journal import JOURNAL, read_journal

QUIET = {
    "seconds": 2.0,
    "busy_seconds": 1.95,
    "own_seconds": 1.9,
    "steal_seconds": 0.01,
    "quota_throttled": 0.0,
    "quota_throttled_seconds": 0.0,
    "heat_throttled": 0.0,
    "swapped_pages": 0.0,
    "major_faults": 2.0,
    "frequency_mhz": 3400.0,
}
SAME = {"affinity": [0, 1], "threads": 1}


def events(*machines: dict[str, float]) -> list[dict[str, Any]]:
    """A replicate event for each; of two variants with equal processors and threads."""
    return [{"machine": {**QUIET, **machine}, "workers": {"base": SAME, "next": SAME}} for machine in machines]


def test_a_quiet_machine_is_not_spoken_of() -> None:
    """Small counts give no sentence, nor do events of a platform that counts nothing."""
    assert disturbances(events({}, {}, {}), cores=2) == []
    assert (
        disturbances([{"machine": {}, "workers": {}}, {"machine": {"seconds": 3.0}, "workers": {}}, {"workers": {}}], 2)
        == []
    )


@pytest.mark.parametrize(
    ("machine", "sentence"),
    [
        (
            {"busy_seconds": 2.8},
            "In 2 of 3 replicates other work took 45 % of a processor: intervals are wider for it; stop it or give more time.",
        ),
        ({"busy_seconds": 4.9}, "In 2 of 3 replicates other work took 1.5 processors:"),
        (
            {"steal_seconds": 0.2},
            "In 2 of 3 replicates the host of this virtual machine withheld 10 % of a processor (steal):",
        ),
        (
            {"quota_throttled": 6.0, "quota_throttled_seconds": 0.4},
            "In 2 of 3 replicates the control group's processor quota stopped its processes 12 times (0.8 s):",
        ),
        (
            {"heat_throttled": 3.0},
            "In 2 of 3 replicates the processor slowed itself 6 times against heat or power limits:",
        ),
        ({"swapped_pages": 300.0}, "In 2 of 3 replicates the machine swapped, 600 pages in all: give it memory,"),
        (
            {"major_faults": 170.0},
            "In 2 of 3 replicates workers waited for the disk for 340 pages while they were timed",
        ),
        (
            {"frequency_mhz": 2100.0},
            "In 2 of 3 replicates the processor ran at 2100 MHz and up, in others at 3400 MHz: ratios hold,",
        ),
    ],
)
def test_what_mattered_is_told_with_its_numbers(machine: dict[str, float], sentence: str) -> None:
    """Two disturbed replicates of three give one sentence, with how many, how much and an advice after the colon."""
    (found,) = disturbances(events(machine, {}, machine), cores=2)
    assert found.startswith(sentence)
    assert found.endswith(".")
    assert re.search(r"[:;,] (\w+ ){0,6}(stop|give|raise|cool|fix|free|weigh)", found)


def test_other_work_matters_by_its_share_of_the_usable_processors() -> None:
    """Half a processor taken by others is told on 2 processors and not on 64."""
    busy = events({"busy_seconds": 2.9})
    assert len(disturbances(busy, cores=2)) == 1
    assert disturbances(busy, cores=64) == []


def test_windows_of_a_few_ticks_say_nothing_of_load() -> None:
    """Three ticks within 50 ms are not told as other work or steal; they count as replicates all the same."""
    short = {"seconds": 0.05, "busy_seconds": 0.08, "own_seconds": 0.05, "steal_seconds": 0.03}
    assert disturbances(events(short, short), cores=1) == []
    (found,) = disturbances(events(short, {"busy_seconds": 2.9}), cores=2)
    assert found.startswith("In 1 of 2 replicates")


def test_other_work_is_never_below_nothing() -> None:
    """Where rounding gives the run more time than the machine, others took none."""
    assert other_work({"seconds": 1.0, "busy_seconds": 0.9, "own_seconds": 1.0}) == 0.0


def test_variants_on_unlike_processors_or_threads_are_told() -> None:
    """Equal workers give no sentence; one on other processors, and one with more threads, are each named with theirs."""
    workers = {"base": SAME, "next": {"affinity": [0], "threads": 2}, "function": {"load_ms": 1.0}}
    assert unequal_workers(events({}, {})) == []
    processors, threads = unequal_workers([{"workers": {"base": SAME}}, {"workers": workers}])
    assert "not have the same processors (base: 0-1; next: 0): they are not comparable" in processors
    assert "not have the same threads (base: 1; next: 2)" in threads


def test_a_run_journals_its_machine_and_tells_it_again(
    tmp_path: Path, write_behaviour: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each replicate holds the counts and every worker's processors and threads, all equal; a derived notice follows them."""
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    for name in ("base", "next"):
        write_behaviour(tmp_path / f"{name}.fake.json", latency_ms=2.0)
    variants = [
        {"name": "base", "backend": "fake", "baseline": True},
        {"name": "next", "backend": "fake", "artifact": "next.fake.json"},
    ]
    workload = {"name": "w", "task": "tabular-classification", "model": "base.fake.json"}
    config = parse_config({"workload": workload, "variants": variants, "measure": {"threads": 2}}, "test")
    folder = run(config, Options(out=tmp_path / "run", base=tmp_path, quick=True)).folder
    journalled = [event for event in read_journal(folder) if event["event"] == "replicate"]
    assert all(event["machine"]["seconds"] > 0 for event in journalled)
    assert {len(event["workers"]) for event in journalled} == {3}
    workers = [facts for event in journalled for facts in event["workers"].values()]
    assert all((facts["affinity"], facts["threads"]) == (list(affinity()), 2) for facts in workers)
    assert not [notice for notice in derive(folder).notices if "heat" in notice]
    path = folder / JOURNAL
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        if line["event"] == "replicate":
            line["machine"]["heat_throttled"] = 2.0
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (told,) = [notice for notice in derive(folder).notices if "heat" in notice]
    assert told.startswith(f"In 4 of 4 replicates the processor slowed itself {4 * 2} times")
