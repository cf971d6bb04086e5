"""A place where a run of fake models can be killed, damaged and gone on with, and what is looked at afterwards; for faults.py."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

PATIENCE_S = 120.0
"""So long is waited for what a run must do at once; a loaded machine is slow."""
UNWINDING_S = 20.0
_REPLICATES = 4
MODELS = {"base": {"latency_ms": 2.0}, "next": {"latency_ms": 1.0}}
_WHICH = ("variant", "metric", "conditions")
_RULE = {"metric": "latency_p50", "compare": "ratio", "max": 0.6, "variants": ["next"]}
RUN = """
import sys
from pathlib import Path
from weighbridge.bench.config import load_config
from weighbridge.bench.running import Options, resume, run
from weighbridge.optimize.errors import WeighbridgeError
place = Path(sys.argv[2])
try:
    if sys.argv[1] == "resume":
        found = resume(place / "run")
    else:
        found = run(load_config(place / "weighbridge.toml"), Options(place / "run", place, quick=True))
except WeighbridgeError as error:
    sys.exit(f"{type(error).__name__}: {error}")
sys.exit(found.exit_code)
"""


@dataclass(frozen=True)
class Place:
    """A folder with a config of fake models, and a cache and a temporary folder of its own."""

    folder: Path

    @staticmethod
    def make(folder: Path, more: Mapping[str, Mapping[str, Any]] | None = None) -> "Place":
        """Write the models and the config: `base`, `next`, which takes half its time, and whatever `more` describes."""
        models = {**MODELS, **(more or {})}
        for part in ("cache", "tmp"):
            (folder / part).mkdir(parents=True)
        for name, behaviour in models.items():
            (folder / f"{name}.fake.json").write_text(json.dumps(behaviour), encoding="utf-8")
        variants = [
            {"name": "base", "backend": "fake", "baseline": True},
            *({"name": name, "backend": "fake", "artifact": f"{name}.fake.json"} for name in models if name != "base"),
        ]
        workload = {"name": "w", "task": "tabular-classification", "model": "base.fake.json"}
        config = {"workload": workload, "variants": variants, "gates": {"rules": [_RULE]}}
        _write_toml(folder / "weighbridge.toml", config)
        return Place(folder)

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.folder / "run"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its processes: by it they are found, too."""
        here = {"WEIGHBRIDGE_CACHE": str(self.folder / "cache"), "TMPDIR": str(self.folder / "tmp")}
        return {**os.environ, **here}

    def start(self, what: str = "run") -> subprocess.Popen[str]:
        """Begin the run, or (`resume`) go on with it, in a process of its own."""
        command = [sys.executable, "-P", "-c", RUN, what, str(self.folder)]
        return subprocess.Popen(command, env=self.environment, stderr=subprocess.PIPE, text=True)

    def finish(self, what: str = "run") -> tuple[int, str]:
        """The exit code and the last words of a run, or of its end."""
        process = self.start(what)
        _, words = process.communicate(timeout=3 * PATIENCE_S)
        return process.returncode, words

    def events(self) -> list[dict[str, Any]]:
        """The whole lines of the journal."""
        journal = self.run / "journal.jsonl"
        text = journal.read_text(encoding="utf-8") if journal.is_file() else ""
        return [json.loads(line) for line in text.split("\n")[:-1]]

    def results(self) -> dict[str, Any]:
        """The run's results."""
        found: dict[str, Any] = json.loads((self.run / "results.json").read_text(encoding="utf-8"))
        return found

    def processes(self) -> list[psutil.Process]:
        """The processes that belong to this place."""
        return [each for each in psutil.process_iter() if _belongs(each, self.folder)]

    def left_behind(self, patience_s: float = UNWINDING_S) -> list[str]:
        """Processes, temporary folders and half-written files that outlived the run; processes have a moment to unwind."""
        _, alive = psutil.wait_procs(self.processes(), timeout=patience_s)
        files = [path for path in self.folder.rglob("*") if path.name.endswith(".part")]
        work = [path for path in (self.folder / "tmp").iterdir() if path.is_dir()]
        return [*(f"process {each.pid}" for each in alive), *(str(path) for path in (*files, *work))]


def _belongs(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.environ().get("TMPDIR") == str(folder / "tmp") and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _write_toml(path: Path, data: dict[str, Any]) -> None:
    import tomli_w

    path.write_text(tomli_w.dumps(data), encoding="utf-8")


def waited(reached: Callable[[], bool], process: subprocess.Popen[str]) -> bool:
    """Wait until a run has got so far; False where it ended before."""
    deadline = time.monotonic() + PATIENCE_S
    while not reached() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return reached()


@dataclass(frozen=True)
class Done:
    """What a run had behind it when it was killed: lines, samples that count, and when artifacts were built."""

    events: list[dict[str, Any]]
    samples: dict[str, str]
    artifacts: dict[str, int]

    @staticmethod
    def of(place: Place) -> "Done":
        """Look at the folder of a run that no process works on."""
        events = place.events()
        names = [f"replicate-{event['number']:03d}.parquet" for event in events if event["event"] == "replicate"]
        built = [Path(event["folder"]) for event in events if event["event"] == "built"]
        return Done(
            events,
            {name: hashlib.sha256((place.run / "samples" / name).read_bytes()).hexdigest() for name in names},
            {str(folder): folder.stat().st_mtime_ns for folder in built},
        )


def kill_at(place: Place, lines: int, delay_s: float, what: str = "run") -> Done:
    """Begin a run (or go on with it), kill it -9 some time after the journal has so many lines; wait until its workers are gone."""
    process = place.start(what)
    waited(lambda: len(place.events()) >= lines, process)
    time.sleep(delay_s)
    process.kill()
    process.communicate()
    psutil.wait_procs(place.processes(), timeout=UNWINDING_S)
    return Done.of(place)


def go_on(place: Place) -> tuple[int, str]:
    """Finish a run that was killed; one that was killed before its first line is begun again."""
    return place.finish("resume" if place.events() else "run")


def lost(place: Place, before: Done) -> list[str]:
    """What a killed run lost, or did twice, by the time it was finished; nothing where it is as if it had never been killed."""
    after = Done.of(place)
    complaints = [f"left behind: {each}" for each in place.left_behind()]
    if after.events[: len(before.events)] != before.events:
        complaints.append("lines of the journal changed")
    if before.samples.items() - after.samples.items():
        complaints.append("samples changed")
    if before.artifacts.items() - after.artifacts.items():
        complaints.append("artifacts were built again")
    wanted = {"built": ["base", "next"], "checked": ["base", "next"]}
    for name, variants in wanted.items():
        if [event["variant"] for event in after.events if event["event"] == name] != variants:
            complaints.append(f"not every variant was {name} once")
    numbers = [event["number"] for event in after.events if event["event"] == "replicate"]
    if numbers != list(range(1, _REPLICATES + 1)):
        complaints.append(f"the replicates are {numbers}")
    return complaints


def telling(results: Mapping[str, Any]) -> dict[str, Any]:
    """Of a run's results all that does not depend on the machine and what else it did: fake models have a clock of their own."""
    of_machine = {"load_time", "peak_memory", "build_time"}
    told: dict[str, Any] = {"exit_code": results["exit_code"]}
    for part in ("measurements", "comparisons", "control"):
        each = [found for found in results[part] if found["metric"] not in of_machine]
        told[part] = [{key: found.get(key) for key in (*_WHICH, "value", "n", "replicates")} for found in each]
    told["gates"] = [{key: gate[key] for key in (*_WHICH, "verdict")} for gate in results["gates"]]
    told["variants"] = [{**row, "build_seconds": 0} for row in results["variants"]]
    return told
