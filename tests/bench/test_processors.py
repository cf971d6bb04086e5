"""Which processor calls are made on: chosen from a given /proc and /sys, whose numbers are known, and really kept to."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from weighbridge.bench import worker as worker_module
from weighbridge.bench.child import Child
from weighbridge.bench.counters import CPUS, affinity
from weighbridge.bench.journal import Journal, read_journal
from weighbridge.bench.plan import Plan, ShapePlan
from weighbridge.bench.processors import idlest, near
from weighbridge.bench.reporter import ignore
from weighbridge.bench.session import Contender, Setting, weigh
from weighbridge.bench.worker import Weigher
from weighbridge.bench.workloads.base import Prepared

SHAPE = {"batch_size": 1, "threads": 1}
FakeVariant = Callable[..., Path]


def stat(ticks: Mapping[int, int]) -> str:
    """/proc/stat of processors that were so many ticks in user mode, and idle or waiting for a disk else."""
    rows = "".join(f"cpu{number} {busy} 0 0 {1000 - busy} 77 0 0 0 0 0\n" for number, busy in ticks.items())
    return f"cpu  9 9 9 9 9 9 9 9 9 9\n{rows}intr 1 2 3\n"


def chosen(root: Path, busy: Mapping[int, int], turn: int = 0) -> int | None:
    """The choice where processors 0 to 3 are busy for so many ticks while it looks."""
    path = root / "proc/stat"
    path.parent.mkdir(parents=True, exist_ok=True)
    before = {number: 100 * number for number in range(4)}
    path.write_text(stat(before), encoding="utf-8")
    after = {number: ticks + busy.get(number, 0) for number, ticks in before.items()}

    def pass_time(_: float) -> None:
        path.write_text(stat(after), encoding="utf-8")

    return idlest(turn, root=root, sleep=pass_time)


def tell(root: Path, number: int, name: str, text: str) -> None:
    """Write a file of the processor `number` below sys."""
    path = root / CPUS / f"cpu{number}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n", encoding="utf-8")


def places_of(child: Child) -> set[tuple[int, ...]]:
    """The processors that each of a worker's threads, of which there are several, may use."""
    threads = [int(each.name) for each in Path(f"/proc/{child.pid}/task").iterdir()]
    assert len(threads) > 1
    return {tuple(sorted(os.sched_getaffinity(each))) for each in threads}


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors 0 to 3 may be used and chosen, whatever the machine of the test is."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)


@pytest.mark.usefixtures("four")
def test_the_idlest_processor_is_chosen(tmp_path: Path) -> None:
    """Of 9, 4, 0 and 7 busy ticks the third is the least, however busy each was before."""
    assert chosen(tmp_path, {0: 9, 1: 4, 2: 0, 3: 7}) == 2


@pytest.mark.usefixtures("four")
def test_equally_idle_processors_take_turns(tmp_path: Path) -> None:
    """Of three idle processors each is chosen in its turn, and the busy one never."""
    assert [chosen(tmp_path, {1: 5}, turn) for turn in range(4)] == [0, 2, 2, 3]


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize(("siblings", "found"), [(("0,2", "1,3"), 3), (("0-1", "2-3"), 0)])
def test_a_busy_hardware_thread_counts_for_its_whole_core(
    tmp_path: Path, siblings: tuple[str, str], found: int
) -> None:
    """Where processors share cores, the chosen core is the one whose threads are idlest together."""
    for core in siblings:
        first, last = int(core[0]), int(core[-1])
        for number in (first, last):
            tell(tmp_path, number, "topology/thread_siblings_list", core)
    assert chosen(tmp_path, {0: 0, 1: 3, 2: 8, 3: 0}) == found


@pytest.mark.usefixtures("four")
def test_of_unlike_processors_the_fastest_are_asked_alone(tmp_path: Path) -> None:
    """An idle efficiency core of 2 GHz is left for the less idle of 4 GHz."""
    for number, kilohertz in enumerate((4_000_000, 4_000_000, 2_000_000, 2_000_000)):
        tell(tmp_path, number, "cpufreq/cpuinfo_max_freq", str(kilohertz))
    assert chosen(tmp_path, {0: 6, 1: 5}) == 1


def test_without_a_choice_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One usable processor, a platform that cannot choose, or one that refuses leaves the calls where the system puts them."""

    def refuse(*_: object) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2}, raising=False)
    assert chosen(tmp_path, {}) is None
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", refuse, raising=False)
    assert chosen(tmp_path, {}) is None
    monkeypatch.delattr(os, "sched_setaffinity")
    assert chosen(tmp_path, {}) is None


@pytest.mark.usefixtures("four")
def test_what_is_loaded_lies_on_the_processors_own_memory_node(tmp_path: Path) -> None:
    """Of two nodes with three processors each, 2 shares its node with 0; where no node is told, every processor is near."""
    assert near(2, root=tmp_path) == (0, 1, 2, 3)
    for node, text in (("node0", "0,2,4"), ("node1", "1,3-3,5")):
        path = tmp_path / "sys/devices/system/node" / node / "cpulist"
        path.parent.mkdir(parents=True)
        path.write_text(f"{text}\n", encoding="utf-8")
    assert near(2, root=tmp_path) == (0, 2)
    assert near(3, root=tmp_path) == (1, 3)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this platform cannot choose processors")
def test_every_thread_of_a_worker_keeps_to_the_processor() -> None:
    """After `keep_to` the system gives each thread of the worker that processor and no other."""
    last = affinity()[-1]
    with Child("kept") as child:
        child.call("keep_to", {"processor": last}, timeout=60)
        assert places_of(child) == {(last,)}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this platform cannot choose processors")
def test_a_variant_is_opened_on_the_processors_that_are_named(tmp_path: Path, fake_variant: FakeVariant) -> None:
    """It is opened there, and tells of all that the process may use: these are equal in every replicate."""
    last = affinity()[-1]
    opening = {"variant": str(fake_variant(tmp_path / "a")), "threads": 1, "provider": None, "processors": [last]}
    with Child("near") as child:
        assert child.call("open", opening, timeout=60)["affinity"] == list(affinity())
        assert places_of(child) == {(last,)}


def test_callers_at_once_have_every_usable_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A visit of two callers is made on all usable processors, one of a caller alone on the one that is kept to."""
    placed: list[tuple[int, ...]] = []
    during: list[tuple[int, ...]] = []
    monkeypatch.setattr(worker_module, "run_on", placed.append)
    model: Any = SimpleNamespace(clock_ns=lambda: 0, infer=lambda _: during.append(placed[-1]))
    shapes: dict[str, Any] = {"two": ({"concurrency": 2}, [None]), "alone": ({}, [None])}
    weigher = Weigher(model, shapes=shapes, usable=(0, 1, 2))
    weigher.keep_to(1)
    weigher.visit("two", 0, 4)
    assert set(during) == {(0, 1, 2)}
    during.clear()
    weigher.visit("alone", 0, 4)
    assert during == [(1,)] * 4


def processors_of(run: Path, setting: Setting) -> list[set[int | None]]:
    """The processors of the workers in each replicate, as the journal tells them; None of a worker that was free."""
    plan = Plan((ShapePlan(SHAPE, 3, 10, 3, 0.04),), 0.1, 2, 60)
    weigh(setting, plan, Journal(run), lambda _: False, ignore)
    events = [event for event in read_journal(run) if event["event"] == "replicate"]
    return [{facts.get("processor") for facts in event["workers"].values()} for event in events]


def test_all_variants_of_a_replicate_keep_to_one_processor(
    tmp_path: Path, fake_workload: Prepared, fake_variant: FakeVariant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both workers are kept to what was chosen for their replicate, and the journal says which it was."""
    turns = affinity()
    choose: Callable[[int], int] = lambda number: turns[number % len(turns)]  # noqa: E731
    monkeypatch.setattr("weighbridge.bench.session.idlest", choose)
    contenders = tuple(Contender(name, fake_variant(tmp_path / name)) for name in ("a", "b"))
    setting = Setting(fake_workload.folder, tmp_path, (contenders,))
    assert processors_of(tmp_path, setting) == [{choose(1)}, {choose(2)}]


@pytest.mark.parametrize("facts", [{"threads": 2}, {"provider": "CUDAExecutionProvider"}, {"keep_to_one": False}])
def test_calls_that_may_need_more_than_one_processor_are_free(tmp_path: Path, facts: dict[str, Any]) -> None:
    """With two threads, on a GPU, or where it is asked for, the system places the workers."""
    groups = ((Contender("a", tmp_path),),)
    assert Setting(tmp_path, tmp_path, groups).one_processor
    assert not Setting(tmp_path, tmp_path, groups, **facts).one_processor


def test_functions_are_free(tmp_path: Path) -> None:
    """A function may start threads and processes of its own: it keeps every processor."""
    pair = (Contender("a", function="time:time"), Contender("b", function="time:time"))
    assert not Setting(None, tmp_path, (pair,)).one_processor
