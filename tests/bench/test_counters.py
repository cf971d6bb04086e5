"""What the machine counts: read from a given /proc and /sys, whose numbers are known."""

import os
import sys
from pathlib import Path

import pytest
from weighbridge.bench import counters as module
from weighbridge.bench.counters import affinity, changes, counters, quota, spans, together

TICKS = 100
CHILD = 4242


@pytest.fixture(autouse=True)
def two_of_three_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors 0 and 1 may be used, a tick is 10 ms, whatever the machine of the test is."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(module, "_ticks", lambda: TICKS)


def write(root: Path, **files: str) -> Path:
    """Write files by their path with __ for /."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def process(root: Path, number: int, times: tuple[int, int, int, int], faults: tuple[int, int] = (0, 0)) -> None:
    """Write /proc/<number>/stat: user, system, dead children's user and system ticks; major faults, dead children's."""
    folder = root / "proc" / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    fields = ["S", *["7"] * 8, *map(str, faults), *map(str, times), *["9"] * 30]
    (folder / "stat").write_text(f"{number} (a name) of two) {' '.join(fields)}\n", encoding="utf-8")


def test_processor_time_is_that_of_the_usable_processors(tmp_path: Path) -> None:
    """User, nice, system and interrupt ticks of processors 0 and 1 are busy; idle, waiting, guests and processor 2 are not."""
    stat = (
        "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 100 10 50 4000 30 5 5 20 60 1\ncpu1 200 0 30 4000 0 0 0 0 0 0\n"
        "cpu2 900 900 900 0 0 0 0 900 0 0\nintr 1 2 3\n"
    )
    found = counters([], write(tmp_path, proc__stat=stat))
    assert found["busy_seconds"] == pytest.approx((100 + 10 + 50 + 5 + 5 + 200 + 30) / TICKS)
    assert found["steal_seconds"] == pytest.approx(20 / TICKS)


def test_time_of_a_child_counts_once_alive_or_dead(tmp_path: Path) -> None:
    """A child of 3 s adds 3 s while it lives, and the same 3 s by what the parent inherits when it has died."""
    process(tmp_path, os.getpid(), (40, 10, 50, 0), (2, 5))
    process(tmp_path, CHILD, (200, 100, 0, 0), (30, 1))
    alive = counters([CHILD], tmp_path)
    assert alive["own_seconds"] == pytest.approx(1.0 + 3.0)
    assert alive["major_faults"] == 5 + 31
    (tmp_path / "proc" / str(CHILD) / "stat").unlink()
    process(tmp_path, os.getpid(), (40, 10, 250, 100), (2, 36))
    dead = counters([CHILD], tmp_path)
    assert changes(alive, dead)["own_seconds"] == changes(alive, dead)["major_faults"] == 0


@pytest.mark.parametrize(
    ("cgroup", "files", "allowed", "throttled"),
    [
        (
            "0::/outer/inner\n",
            {
                "outer__cpu.max": "150000 100000\n",
                "outer__inner__cpu.max": "max 100000\n",
                "outer__cpu.stat": "usage_usec 5\nnr_throttled 3\nthrottled_usec 500000\n",
                "outer__inner__cpu.stat": "nr_throttled 1\nthrottled_usec 250000\n",
            },
            1.5,
            (4, 0.75),
        ),
        (
            "3:memory:/elsewhere\n2:cpuacct,cpu:/docker\n",
            {
                "cpu__cpu.cfs_quota_us": "50000\n",
                "cpu__cpu.cfs_period_us": "100000\n",
                "cpu__docker__cpu.cfs_quota_us": "-1\n",
                "cpu__docker__cpu.cfs_period_us": "100000\n",
                "cpu__cpu.stat": "nr_periods 9\nnr_throttled 2\nthrottled_time 1500000000\n",
            },
            0.5,
            (2, 1.5),
        ),
    ],
)
def test_quota_and_its_stops_are_read_up_the_control_groups(
    cgroup: str, files: dict[str, str], allowed: float, throttled: tuple[int, float], tmp_path: Path
) -> None:
    """The tightest quota of this group and those above it, and all their stops, in cgroup v2 and in v1."""
    write(tmp_path, proc__self__cgroup=cgroup, **{f"sys__fs__cgroup__{name}": text for name, text in files.items()})
    assert quota(tmp_path) == allowed
    found = counters([], tmp_path)
    assert (found["quota_throttled"], found["quota_throttled_seconds"]) == throttled


def test_heat_swap_and_frequency_are_read(tmp_path: Path) -> None:
    """Core counts add up, the package's is taken once, processor 2 is left out; the frequency is the fastest one's."""
    cpus = "sys__devices__system__cpu__cpu"
    files = {f"{cpus}{n}__thermal_throttle__core_throttle_count": f"{count}\n" for n, count in enumerate((2, 3, 50))}
    files |= {f"{cpus}{n}__thermal_throttle__package_throttle_count": "7\n" for n in range(3)}
    files |= {f"{cpus}{n}__cpufreq__scaling_cur_freq": f"{khz}\n" for n, khz in enumerate((2100000, 3400000, 5000000))}
    found = counters([], write(tmp_path, proc__vmstat="nr_free_pages 5\npswpin 10\npswpout 20\n", **files))
    assert (found["heat_throttled"], found["swapped_pages"], found["frequency_mhz"]) == (2 + 3 + 7, 30, 3400)


def test_what_a_platform_lacks_is_absent(tmp_path: Path) -> None:
    """On a machine without /proc and /sys only the clock is left, there is no quota, and nothing is raised."""
    assert set(counters([CHILD], tmp_path)) == {"seconds"}
    assert quota(tmp_path) is None


def test_a_platform_without_affinity_may_use_every_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no affinity all of its processors are usable."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert affinity() == (0, 1, 2, 3)


def test_changes_are_differences_of_what_both_readings_have() -> None:
    """Counters are subtracted, a counter that only one reading has is left out, of the frequency the lower one stays."""
    before = {"seconds": 10.0, "busy_seconds": 1.0, "frequency_mhz": 3000.0, "heat_throttled": 1.0}
    after = {"seconds": 12.5, "busy_seconds": 4.0, "frequency_mhz": 2500.0}
    assert changes(before, after) == {"seconds": 2.5, "busy_seconds": 3.0, "frequency_mhz": 2500.0}


def test_windows_of_one_replicate_add_up() -> None:
    """Two groups that are weighed one after the other make one replicate: counts add, the lowest frequency stays."""
    windows = [
        {"seconds": 2.0, "frequency_mhz": 2500.0},
        {"seconds": 1.5, "frequency_mhz": 3000.0, "swapped_pages": 4.0},
    ]
    assert together(windows) == {"seconds": 3.5, "frequency_mhz": 2500.0, "swapped_pages": 4.0}
    assert together([]) == {}


@pytest.mark.parametrize(
    ("numbers", "words"), [((), ""), ((3,), "3"), ((0, 1, 2, 3, 8), "0-3 8"), ((0, 2, 4, 5), "0 2 4-5")]
)
def test_numbers_in_short(numbers: tuple[int, ...], words: str) -> None:
    """Runs of neighbours are written by their ends."""
    assert spans(numbers) == words


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts in /proc")
def test_this_machine_counts_the_work_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the real /proc a busy loop of some ticks is found in this process's time, and no less in the machine's."""
    monkeypatch.undo()
    before = counters([])
    while counters([])["own_seconds"] - before["own_seconds"] < 0.05:
        sum(range(10_000))
    found = changes(before, counters([]))
    assert found["own_seconds"] >= 0.05
    assert found["busy_seconds"] >= 0
    assert found["seconds"] > 0
