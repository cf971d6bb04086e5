"""What pytest-benchmark saved, of any project: its JSON read strictly, with or without the raw data."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..bench.results import RESULTS
from ..optimize.errors import InputError
from ..optimize.plain_data import checked
from . import words

COLUMNS = (
    *("file", "project", "date", "commit", "machine", "group", "name", "min_ms", "median_ms", "mean_ms", "stddev_ms"),
    *("iqr_ms", "max_ms", "rounds", "iterations"),
)
"""Columns of the CSV and keys of the JSON: one row a benchmark; times in milliseconds, of one iteration."""
_MS = 1000.0
_MOST_S = 1e9


@dataclass(frozen=True)
class Stats:
    """The statistics of one benchmark in seconds a call; `data` are its rounds, empty where the file has none."""

    min: float
    max: float
    mean: float
    stddev: float
    median: float
    iqr: float
    rounds: int
    iterations: int = 1
    data: tuple[float, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """One benchmark of the file; the full name has its module too, and is the name where several have the same one."""

    name: str
    stats: Stats
    group: str | None = None
    fullname: str = ""


@dataclass(frozen=True)
class _Commit:
    id: str | None = None
    project: str | None = None
    dirty: bool | None = None


@dataclass(frozen=True)
class _Saved:
    benchmarks: tuple[Benchmark, ...]
    machine_info: dict[str, Any] = field(default_factory=dict)
    commit_info: _Commit = _Commit()
    datetime: str = ""
    version: str = ""
    weighbridge: Any = None


@dataclass(frozen=True)
class SavedBenchmarks:
    """A file that pytest-benchmark wrote.

    Attributes:
        path: where it is.
        benchmarks: in the order of the file.
        machine: processor, cores and architecture in words; runs are comparable at most within one.
        project: the name of the repository; may be empty.
        commit: the commit, marked where the tree had changes; may be empty.
        date: when it was run, ISO 8601; may be empty.
        version: of pytest-benchmark; may be empty.
        interleaved: whether Weighbridge's harness took samples for it, which are interleaved.
    """

    path: Path
    benchmarks: tuple[Benchmark, ...]
    machine: str
    project: str
    commit: str
    date: str
    version: str
    interleaved: bool

    @property
    def groups(self) -> dict[str, list[Benchmark]]:
        """The benchmarks by their group, in the order of the file; those without one under an empty name."""
        found: dict[str, list[Benchmark]] = {}
        for each in self.benchmarks:
            found.setdefault(each.group or "", []).append(each)
        return found

    @property
    def warning(self) -> str:
        """What a reader must know before comparing rows."""
        if self.interleaved:
            return (
                "The rows of Weighbridge's harness in this file were interleaved, any others were not; verdicts and intervals stand in "
                "the report of the run itself."
            )
        return (
            "These samples were not interleaved: each benchmark was timed in one stretch, one after another, so that a drift of the "
            "machine reads as a difference between them. No ratio is shown and nothing is judged."
        )


def read_benchmarks(path: Path) -> SavedBenchmarks:
    """Read a file that `pytest --benchmark-json` or `--benchmark-save` wrote.

    Raises:
        InputError: it cannot be read, is no such file, or holds times that cannot be.
    """
    if path.name == RESULTS:
        raise InputError(f"{path} is a run's own file; give its folder instead: {path.parent}")
    try:
        # Not parse_json: extra_info is the project's own and may hold the NaN that Python's json writes.
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
        saved = checked(_Saved, _known(data))
        _need_times(saved)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read as what pytest-benchmark saves ({error}); give a file that `pytest --benchmark-json` wrote, or a "
            "run folder"
        ) from error
    return SavedBenchmarks(
        path=path,
        benchmarks=tuple(_told_apart(saved.benchmarks)),
        machine=_machine(saved.machine_info),
        project=saved.commit_info.project or "",
        commit=_commit(saved.commit_info),
        date=saved.datetime,
        version=saved.version,
        interleaved=saved.weighbridge is not None,
    )


def _told_apart(benchmarks: Sequence[Benchmark]) -> Iterator[Benchmark]:
    """The benchmarks, those of equal names by their full ones."""
    times = Counter(each.name for each in benchmarks)
    for each in benchmarks:
        yield replace(each, name=each.fullname) if times[each.name] > 1 and each.fullname else each


def _known(data: Any) -> Any:
    """The file's parts without those that are null."""
    return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data


def _need_times(saved: _Saved) -> None:
    """Raise a ValueError where a benchmark has no rounds, or a time that is none."""
    if not saved.benchmarks:
        raise ValueError("it holds no benchmark: every one failed or was skipped")
    for each in saved.benchmarks:
        stats = each.stats
        times = (stats.min, stats.max, stats.mean, stats.median, stats.stddev, stats.iqr, *stats.data)
        if not all(math.isfinite(time) and 0 <= time < _MOST_S for time in times):
            raise ValueError(f"benchmark {each.name} has a time that is negative, not finite or of thirty years")
        if stats.rounds < 1 or stats.iterations < 1:
            raise ValueError(f"benchmark {each.name} has no rounds or no iterations")


def _machine(info: dict[str, Any]) -> str:
    """`AMD EPYC x2 x86_64 Linux`: the processor by any of the names that the versions of py-cpuinfo gave it."""
    cpu = info.get("cpu")
    facts = cpu if isinstance(cpu, dict) else {}
    named = [facts.get(key) for key in ("brand_raw", "brand", "hardware")] + [info.get("processor")]
    processor = next((str(each) for each in named if each), "")
    cores = f"x{facts['count']}" if facts.get("count") else ""
    return " ".join(str(part) for part in (processor, cores, info.get("machine"), info.get("system")) if part)


def _commit(info: _Commit) -> str:
    if not info.id or info.id in ("unknown", "unversioned"):
        return ""
    return f"{info.id[:12]}{' with changes' if info.dirty else ''}"


def benchmark_rows(files: tuple[SavedBenchmarks, ...]) -> Iterator[dict[str, Any]]:
    """One row a benchmark under COLUMNS."""
    for each in files:
        about = (each.path.name, each.project, each.date, each.commit, each.machine)
        for benchmark in each.benchmarks:
            stats = benchmark.stats
            times = (stats.min, stats.median, stats.mean, stats.stddev, stats.iqr, stats.max)
            milliseconds = (_MS * time for time in times)
            row = (*about, benchmark.group or "", benchmark.name, *milliseconds, stats.rounds, stats.iterations)
            yield dict(zip(COLUMNS, row, strict=True))


def in_words(seconds: float) -> str:
    """A time of any size: `312 ns`, `1.23 µs`, `45.6 ms`, `7.89 s`."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{words.significant(seconds / scale)} {unit}"
    return f"{words.significant(seconds / 1e-9)} ns"
