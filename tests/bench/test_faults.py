"""Faults injected into whole runs (bench/scripts/faults.py): each costs what it must and no more. The long ones are soak tests."""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from filelock import FileLock
from weighbridge.bench import environment
from weighbridge.bench.config import WorkloadConfig, parse_config
from weighbridge.bench.running import Options, run
from weighbridge.bench.session import only_one_weighs
from weighbridge.bench.workloads import fake

Write = Callable[..., Path]
LONG_S = 3600


@pytest.fixture(scope="module")
def faults(load_script: Callable[[str], ModuleType]) -> ModuleType:
    """The script that injects faults and prints the table of docs/reliability.md."""
    return load_script("faults")


def test_a_run_whose_parent_was_killed_twice_is_finished(faults: Any, tmp_path: Path) -> None:
    """Killed -9 while it builds and again while it weighs: no worker stays, nothing is done twice, nothing is lost."""
    place = faults.Place.make(tmp_path / "place")
    building = faults.kill_at(place, 3, 0.0)
    assert len(building.events) >= 3
    weighing = faults.kill_at(place, 10, 0.1, "resume")
    assert len(weighing.samples) >= 1
    assert faults.go_on(place) == (0, "")
    assert [*faults.lost(place, building), *faults.lost(place, weighing)] == []
    ratios = [each["value"] for each in place.results()["comparisons"] if each["metric"] == "latency_p50"]
    assert ratios == pytest.approx([0.5])


def test_what_was_lost_is_found(faults: Any, tmp_path: Path) -> None:
    """The check itself: changed samples, a changed journal, a second build and a left file are each complained of."""
    place = faults.Place.make(tmp_path / "place")
    (place.run / "samples").mkdir(parents=True)
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    sample = place.run / "samples" / "replicate-001.parquet"
    sample.write_bytes(b"one")
    events: list[dict[str, Any]] = [
        *({"event": "built", "variant": name, "folder": str(artifact)} for name in ("base", "next")),
        *({"event": "checked", "variant": name} for name in ("base", "next")),
        *({"event": "replicate", "number": number} for number in (1, 1, 1, 1)),
    ]
    journal = place.run / "journal.jsonl"
    journal.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    before = faults.Done.of(place)
    sample.write_bytes(b"other")
    (place.run / ".x.part").write_bytes(b"")
    (place.folder / "tmp" / "work").mkdir()
    journal.write_text("".join(json.dumps(event) + "\n" for event in events[1:]), encoding="utf-8")
    artifact.rmdir()
    artifact.mkdir()
    assert faults.lost(place, before) == [
        f"left behind: {place.run / '.x.part'}",
        f"left behind: {place.folder / 'tmp' / 'work'}",
        "lines of the journal changed",
        "samples changed",
        "artifacts were built again",
        "not every variant was built once",
        "the replicates are [1, 1, 1, 1]",
    ]


def test_a_process_that_stays_is_found(faults: Any, tmp_path: Path) -> None:
    """A process of the place that is still alive is named."""
    place = faults.Place.make(tmp_path / "place")
    code = "print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], env=place.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert place.left_behind(0.0) == [f"process {process.pid}"]
        process.communicate(b"\n")
    assert place.left_behind() == []


def test_a_second_run_waits_for_the_first_to_end_its_weighing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another holds the machine-wide lock a run says that it waits, and goes on only when the lock is free."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told: list[str] = []
    waiting, weighing = threading.Event(), threading.Event()

    def tell(sentence: str) -> None:
        told.append(sentence)
        waiting.set()

    def weigh() -> None:
        with only_one_weighs(tell):
            weighing.set()

    with FileLock(tmp_path / "weighbridge-weighing.lock"):
        second = threading.Thread(target=weigh)
        second.start()
        assert waiting.wait(20)
        assert not weighing.is_set()
    second.join(20)
    assert weighing.is_set()
    assert told == ["another run is weighing on this machine; waiting for it to end"]


def test_a_clock_that_jumps_changes_dates_alone() -> None:
    """Nothing in the product asks the clock that may be set: durations and time limits come from monotonic ones."""
    root = Path(__file__).resolve().parents[2]
    files = [path for part in ("optimize", "bench", "reports") for path in (root / part).rglob("*.py")]
    asking = [str(path) for path in files if "time.time(" in path.read_text(encoding="utf-8")]
    assert len(files) > 100
    assert asking == []


@pytest.mark.soak
@pytest.mark.timeout(LONG_S)
@pytest.mark.parametrize("kind", ["variant_faults", "first_call", "interrupts", "cache_damages", "two_runs", "disks"])
def test_every_fault_is_survived(kind: str, faults: Any, tmp_path: Path) -> None:
    """Each row of the table: what was injected was survived, and cost what the table says."""
    rows = list(getattr(faults, kind)(tmp_path / "faults"))
    assert [row for row in rows if row.survived != row.injected] == []
    assert rows


@pytest.mark.soak
@pytest.mark.timeout(LONG_S)
def test_fifty_kills_lose_nothing(faults: Any, tmp_path: Path) -> None:
    """The parent is killed -9 at fifty random moments: every run is finished, with the results of one that nobody killed."""
    (row,) = faults.parent_kills(tmp_path / "kills", 50, seed=0)
    assert (row.survived, row.lost) == (50, "the replicate under way")


def config_of(folder: Path, write: Write, candidates: int, batch_sizes: list[int]) -> Any:
    write(folder / "base.fake.json", latency_ms=2.0)
    variants: list[dict[str, Any]] = [{"name": "base", "backend": "fake", "baseline": True}]
    for number in range(1, candidates + 1):
        write(folder / f"v{number}.fake.json", latency_ms=2.0 * number / candidates)
        variants.append({"name": f"v{number}", "backend": "fake", "artifact": f"v{number}.fake.json"})
    workload = {"name": "w", "task": "tabular-classification", "model": "base.fake.json"}
    measure = {"batch_sizes": batch_sizes}
    return parse_config({"workload": workload, "variants": variants, "measure": measure}, "test")


MEMORY = """
import json, sys
from pathlib import Path
from weighbridge.bench.building import Built
from weighbridge.bench.checks import check_all
from weighbridge.bench.config import VariantConfig
from weighbridge.bench.predictions import read_class_predictions, write_class_predictions
from weighbridge.bench.worker import peak_resident_bytes
from weighbridge.bench.workloads.base import Prepared
folder = Path(sys.argv[1])
built = [Built(VariantConfig(name=name, backend="fake"), "ok", folder=folder / name) for name in ("a", "b", "c")]
shapes = ({"batch_size": 1, "threads": 1},)
found = check_all(
    built, Prepared.read(folder / "prepared"), shapes, threads=1, provider=None, progress=lambda *_: None, kept=folder / "kept"
)
write_class_predictions(folder, {each.name: each.answers for each in found})
read = read_class_predictions(folder)
right = sum(int(each.correct.sum()) for each in read.values())
print(json.dumps({"parent": peak_resident_bytes(), "worker": max(each.peak_bytes for each in found), "right": right}))
"""


@pytest.mark.soak
def test_a_hundred_thousand_examples_take_little_memory(
    tmp_path: Path, fake_variant: Write, write_behaviour: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against 1,000 examples the worker grows by less than 20 MB; the parent, which keeps the answers, by less than 0.6 kB for each."""
    found = {}
    for examples in (1_000, 100_000):
        folder = tmp_path / str(examples)
        monkeypatch.setattr(fake, "_EXAMPLES", examples)
        source = write_behaviour(folder / "s.fake.json")
        config = WorkloadConfig(name="w", task="tabular-classification", model=str(source))
        fake.prepare_fake(config, source, folder / "prepared")
        for name in ("a", "b", "c"):
            fake_variant(folder / name)
        command = [sys.executable, "-P", "-c", MEMORY, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[examples] = json.loads(done.stdout)
    assert [each["right"] for each in found.values()] == [3_000, 300_000]
    few, many = found.values()
    assert many["worker"] - few["worker"] < 20e6
    assert many["parent"] - few["parent"] < 3 * 99_000 * 600


@pytest.mark.soak
@pytest.mark.timeout(LONG_S)
@pytest.mark.parametrize(("candidates", "fits"), [(59, True), (2, False)])
def test_many_variants_and_little_memory(
    candidates: int, fits: bool, tmp_path: Path, write_behaviour: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 variants at three shapes in one run, and variants that do not stand in memory together: every ratio is the true one."""
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    if not fits:
        monkeypatch.setattr(environment, "available_bytes", lambda: 1)
    shapes = [1, 2, 4]
    config = config_of(tmp_path, write_behaviour, candidates, shapes)
    results = run(config, Options(tmp_path / "run", tmp_path, quick=True))
    assert {row.status for row in results.variants} == {"ok"}
    found = {
        (each.variant, each.conditions["batch_size"]): each.value
        for each in results.comparisons
        if each.metric == "latency_p50"
    }
    expected = {(f"v{number}", size): number / candidates for number in range(1, candidates + 1) for size in shapes}
    assert found == pytest.approx(expected, rel=2e-5)  # the clock counts whole nanoseconds, of calls of some 17,000
