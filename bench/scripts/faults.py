"""Injects faults into runs of fake models, and prints the table of docs/reliability.md.

    python bench/scripts/faults.py [--kills 50] [--seed 0]

Every fault is real: processes are killed, files are damaged, a file system of its own is filled. A fault counts as survived only
where the run ended as docs/reliability.md says, and left no process and no half-written or temporary file behind.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))  # the script beside this one, whose folder `python -P` leaves out

from faults_place import MODELS, PATIENCE_S, RUN, Done, Place, go_on, kill_at, lost, telling, waited

_A_VARIANT_FAILED = 4
_REFUSED = 2
"""Exit codes."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    fault: str
    injected: int
    survived: int
    lost: str


VARIANT_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "killed (-9) in a call": ({"fault": "kill", "fault_at_call": 400}, "SIGKILL"),
    "segmentation fault": ({"fault": "segfault", "fault_at_call": 400}, "SIGSEGV"),
    "exit in a call": ({"fault": "exit", "fault_at_call": 400}, "status 3"),
    "exception at load": ({"fail_at_open": "weights of another model"}, "weights of another model"),
    "exception at call 1,000": ({"fault": "exception", "fault_at_call": 1000}, "told to fail"),
    "out of memory": ({"fault": "memory", "fault_at_call": 400}, "MemoryError"),
    "NaN outputs": ({"outputs": "nan"}, "NaN"),
    "constant outputs": ({"outputs": "constant"}, "same"),
    "outputs of a wrong shape": ({"outputs": "wrong-shape"}, "rows of scores"),
    "outputs that differ from call to call": ({"outputs": "random"}, "differ"),
}
"""What a variant does, and the word that its reason must have."""


def variant_faults(folder: Path) -> Iterator[Row]:
    """One run of all misbehaving variants beside two sound ones: each costs itself alone, and the verdict on the others stands."""
    bad = {f"bad-{number}": {"latency_ms": 0.02, **told} for number, (told, _) in enumerate(VARIANT_FAULTS.values())}
    place = Place.make(
        folder, {"base": {"latency_ms": 0.2}, "next": {"latency_ms": 0.1}, **bad}
    )  # over 1,000 calls a process
    code, words = place.finish()
    if not (place.run / "results.json").is_file():
        yield Row("variants that misbehave", len(bad), 0, words)
        return
    results, left = place.results(), place.left_behind()
    rows = {row["name"]: row for row in results["variants"]}
    stands = code == _A_VARIANT_FAILED and not left and [gate["verdict"] for gate in results["gates"]] == ["pass"]
    for number, (fault, (_, word)) in enumerate(VARIANT_FAULTS.items()):
        row = rows[f"bad-{number}"]
        well = stands and row["status"] == "failed" and word in row["reason"]
        yield Row(fault, 1, int(well), "that variant" if well else f"{row['reason']} {words} {left}")


def first_call(folder: Path) -> Iterator[Row]:
    """An artifact that raises at its first call cannot be run on the data: the run is refused, as for any bad input."""
    place = Place.make(folder, {"bad": {"fault": "exception", "fault_at_call": 1}})
    code, words = place.finish()
    well = code == 1 and "cannot be run on the data" in words and not place.run.exists() and not place.left_behind()
    yield Row(
        "exception at the first call", 1, int(well), "nothing: refused before anything was written" if well else words
    )


def parent_kills(folder: Path, kills: int, seed: int) -> Iterator[Row]:
    """Kill the parent at random moments of the run; finish each, and compare with a run that nobody killed."""
    whole = Place.make(folder / "whole")
    code, _ = whole.finish()
    expected, moments = telling(whole.results()), len(whole.events())
    chosen = random.Random(seed)  # noqa: S311 - moments, no secrets
    survived, complaints = 0, list[str]()
    for number in range(kills):
        place = Place.make(folder / str(number))
        before = kill_at(place, chosen.randrange(moments), chosen.uniform(0, 0.5))
        ended, words = go_on(place)
        found = lost(place, before) if ended == code else [words]
        if not found and telling(place.results()) != expected:
            found = [
                f"the results differ from those of a run that nobody killed: {_differing(telling(place.results()), expected)}"
            ]
        survived += not found
        complaints += found
        shutil.rmtree(place.folder)
    what = "the replicate under way" if not complaints else "; ".join(sorted(set(complaints)))
    yield Row("parent killed (-9) at a random moment, then `run --resume`", kills, survived, what)


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    return ", ".join(name for name in first if first[name] != second[name])


def interrupts(folder: Path) -> Iterator[Row]:
    """SIGTERM and SIGINT while weighing; then the run is finished."""
    for number in (signal.SIGINT, signal.SIGTERM):
        place = Place.make(folder / number.name)
        process = place.start()
        waited(lambda: any(event["event"] == "replicate" for event in place.events()), process)  # noqa: B023 - used at once
        process.send_signal(number)
        process.communicate(timeout=PATIENCE_S)
        before = Done.of(place)
        code, words = go_on(place)
        found = lost(place, before) if code == 0 else [words]
        yield Row(f"{number.name} while weighing, then `run --resume`", 1, int(not found), _what(found))


def _what(complaints: list[str]) -> str:
    return "; ".join(complaints) or "the replicate under way"


def cache_damages(folder: Path) -> Iterator[Row]:
    """Artifacts and manifests truncated, flipped or swapped between two runs: noticed, built again, no wrong byte weighed."""
    for what, damage in CACHE_DAMAGES.items():
        place = Place.make(folder / what.replace(" ", "-"))
        place.finish()
        damage(place.folder / "cache" / "artifacts")
        shutil.rmtree(place.run)
        code, words = place.finish()
        rebuilt = [event["from_cache"] for event in place.events() if event["event"] == "built"]
        ratio = next(each["value"] for each in place.results()["comparisons"] if each["metric"] == "latency_p50")
        well = code == 0 and not all(rebuilt) and abs(ratio - 0.5) < 1e-9 and not place.left_behind()  # noqa: PLR2004
        yield Row(f"cache: {what}", 1, int(well), "the damaged artifact, built again" if well else words)


def _truncate(root: Path) -> None:
    for path in root.glob("*/model.fake.json"):
        path.write_bytes(path.read_bytes()[:-3])


def _flip(root: Path) -> None:
    for path in root.glob("*/model.fake.json"):
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(bytes(data))


def _swap(root: Path, name: str) -> None:
    first, second = sorted(root.glob(f"*/{name}"))
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


def _cut_manifest(root: Path) -> None:
    for path in root.glob("*/manifest.json"):
        path.write_bytes(path.read_bytes()[:100])


def _swap_folders(root: Path) -> None:
    first, second = sorted(path for path in root.iterdir() if path.is_dir())
    aside = first.rename(root / "aside")
    second.rename(first)
    aside.rename(second)


CACHE_DAMAGES: dict[str, Callable[[Path], None]] = {
    "artifacts truncated": _truncate,
    "artifacts with a bit flipped": _flip,
    "artifacts swapped": lambda root: _swap(root, "model.fake.json"),
    "manifests truncated": _cut_manifest,
    "manifests swapped": lambda root: _swap(root, "manifest.json"),
    "whole folders swapped": _swap_folders,
}


def two_runs(folder: Path) -> Iterator[Row]:
    """Two runs begun at once on one cache and one machine-wide lock: each artifact is built once, and they weigh in turn."""
    place = Place.make(folder)
    shutil.copytree(folder, folder / "second", ignore=shutil.ignore_patterns("cache", "tmp", "second"))
    other = [sys.executable, "-P", "-c", RUN, "run", str(folder / "second")]
    pair = [place.start(), subprocess.Popen(other, env=place.environment, stderr=subprocess.PIPE, text=True)]
    words = [process.communicate(timeout=4 * PATIENCE_S)[1] for process in pair]
    second = Place(folder / "second")
    built = [event["from_cache"] for each in (place, second) for event in each.events() if event["event"] == "built"]
    well = [process.returncode for process in pair] == [0, 0] and not place.left_behind() and apart(place, second)
    well = well and sum(not each for each in built) == len(MODELS)
    lost_here = "nothing: the second waits with its weighing" if well else "; ".join(words)
    yield Row("two runs at once on one cache", 1, int(well), lost_here)


def apart(first: Place, second: Place) -> bool:
    """Whether one run's samples were all written before the other's, as the locked weighing demands."""
    times = [sorted(path.stat().st_mtime_ns for path in (each.run / "samples").iterdir()) for each in (first, second)]
    return times[0][-1] < times[1][0] or times[1][-1] < times[0][0]


FILLED = """
set -e
mount -t tmpfs -o size=$1k tmpfs "$2/run"
set +e
"$3" -P -c "$4" run "$2"
code=$?
cp "$2/run/journal.jsonl" "$2/then.jsonl"
mount -o remount,size=20m "$2/run"
"$3" -P -c "$4" resume "$2" || exit 70
cp -r "$2/run" "$2/after"
exit $code
"""


READ_ONLY = """
set -e
mount -t tmpfs -o ro tmpfs "$1/run"
exec "$2" -P -c "from weighbridge.bench.cli.main import main; main()" run "$1/weighbridge.toml" --out "$1/run/new"
"""


def read_only(folder: Path) -> tuple[Place, int, str]:
    """Run the command line into a file system that nothing can be written to; returns as `disk_full` does."""
    place = Place.make(folder)
    place.run.mkdir()
    done = _mounting(READ_ONLY, place, str(folder), sys.executable)
    return (place, done.returncode, done.stderr) if done else (place, -1, _NO_MOUNT)


_NO_MOUNT = "no file system can be mounted here"


def _mounting(script: str, place: Place, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    """Run a shell script that mounts what only it sees; None where this user may mount nothing."""
    command = ["unshare", "--map-root-user", "--mount"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command, "true"], check=False, capture_output=True).returncode
    ):
        return None
    whole = [*command, "sh", "-c", script, "sh", *arguments]
    return subprocess.run(whole, env=place.environment, capture_output=True, text=True, check=False)


def disk_full(folder: Path, kibibytes: int = 56) -> tuple[Place, int, str]:
    """Run into a file system of that size, which fills up; then give it room, and go on. The run's folder is copied to `after`.

    Returns the place, the exit code of the first part and the last words; code -1 where this user may mount nothing.
    """
    place = Place.make(folder)
    place.run.mkdir()
    done = _mounting(FILLED, place, str(kibibytes), str(folder), sys.executable, RUN)
    return (place, done.returncode, done.stderr) if done else (place, -1, _NO_MOUNT)


def disks(folder: Path) -> Iterator[Row]:
    """A full disk, and one that cannot be written to."""
    place, code, words = disk_full(folder / "full")
    after = folder / "full" / "after" / "results.json"
    well = code not in (-1, 0, 70) and "No space left" in words and after.is_file() and not place.left_behind()
    yield Row(
        "disk full while the run writes, then `run --resume`",
        1,
        int(well),
        "the replicate under way" if well else words,
    )
    place, code, words = read_only(folder / "read-only")
    well = code == _REFUSED and "Read-only file system" in words and not place.left_behind()
    yield Row("output on a read-only file system", 1, int(well), "nothing: refused with the reason" if well else words)


def show(rows: Iterator[Row]) -> None:
    """Print rows of the table as they come."""
    for row in rows:
        print(f"| {row.fault} | {row.injected} | {row.survived} | {row.lost} |", flush=True)


def main() -> None:
    """Inject every fault, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="how often the parent is killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which it is killed")
    asked = parser.parse_args()
    print("| fault | injected | survived | what was lost |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        show(variant_faults(folder / "variants"))
        show(first_call(folder / "first"))
        show(parent_kills(folder / "kills", asked.kills, asked.seed))
        show(interrupts(folder / "interrupts"))
        show(cache_damages(folder / "cache"))
        show(two_runs(folder / "two"))
        show(disks(folder / "disks"))


if __name__ == "__main__":
    main()
