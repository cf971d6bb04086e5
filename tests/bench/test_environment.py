"""What is told of the machine: an allow-list, with advice where something would disturb a measurement."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from weighbridge.bench import environment
from weighbridge.optimize.errors import UnavailableError
from weighbridge.optimize.nvml import Gpu

ALIKE: dict[str, Any] = {
    "machine": "Xeon x2 x86_64 8 GiB",
    "instruction_sets": ["avx2", "avx512f"],
    "processor_quota": None,
    "python": "3.11.9",
    "system": "Linux 6.1",
    "governor": "performance",
    "versions": {"torch": "2.13.0", "onnxruntime": "1.31.1"},
}


def test_only_named_facts_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The description holds these facts and no other, and no value of an environment variable, whatever its name."""
    monkeypatch.setenv("SECRET_TOKEN", "hunter2-hunter2")
    facts = environment.describe(tmp_path)
    assert "hunter2" not in str(facts)
    assert set(facts) == {
        *(
            "date",
            "commit",
            "machine",
            "system",
            "architecture",
            "python",
            "cpu",
            "cores",
            "affinity",
            "processor_quota",
        ),
        *("virtual_machine", "instruction_sets", "memory_bytes", "governor", "load_average", "versions"),
        *("gpu", "gpu_driver"),
    }
    assert len(facts["affinity"]) == facts["cores"]
    assert json.loads(json.dumps(facts)) == facts
    assert facts["versions"]["numpy"]


def test_gpus_are_told_with_their_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPUs of one name are counted; a machine without any tells two empty texts."""
    found = [Gpu(name, "9.0", "580.65.06", 80 << 30) for name in ("NVIDIA H100", "NVIDIA L4", "NVIDIA H100")]
    monkeypatch.setattr(environment, "gpus", lambda: tuple(found))
    facts = environment.describe(tmp_path)
    assert (facts["gpu"], facts["gpu_driver"]) == ("NVIDIA H100 x2, NVIDIA L4", "580.65.06")
    found.clear()
    facts = environment.describe(tmp_path)
    assert (facts["gpu"], facts["gpu_driver"]) == ("", "")


@pytest.mark.parametrize("error", [UnavailableError("no NVIDIA driver was found"), AttributeError("an older pynvml")])
def test_no_gpu_that_fails_to_tell_of_itself_ends_a_run(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a driver, or with a library that breaks, the machine is described as one without GPUs."""

    def broken() -> tuple[Gpu, ...]:
        raise error

    monkeypatch.setattr(environment, "gpus", broken)
    facts = environment.describe(tmp_path)
    assert (facts["gpu"], facts["gpu_driver"]) == ("", "")


def test_the_commit_is_that_of_the_checkout_and_marks_changes(tmp_path: Path) -> None:
    """Outside git the commit is empty; inside it is HEAD, with a plus where a tracked file differs."""
    assert environment.commit(tmp_path) == ""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.invalid"]
    (tmp_path / "file").write_text("one", encoding="utf-8")
    for arguments in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
    assert environment.commit(tmp_path) == head.stdout.strip()
    (tmp_path / "file").write_text("two", encoding="utf-8")
    assert environment.commit(tmp_path) == head.stdout.strip() + "+"


def test_load_gives_advice_and_quiet_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loaded machine is told with its load and what to do; a quiet one gets no sentence about load."""
    monkeypatch.setattr(psutil, "cpu_percent", lambda **_: 60.0)
    assert "Other work takes 60 % of this machine's processors: stop it or wait." in environment.advice()
    monkeypatch.setattr(psutil, "cpu_percent", lambda **_: 2.0)
    assert not any("Other work" in sentence for sentence in environment.advice())


def test_available_memory_is_at_most_the_machines() -> None:
    """What new processes can take is above nothing and at most the machine's memory."""
    assert 0 < environment.available_bytes() <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("cgroup", "files", "spare"),
    [
        (
            "0::/outer/inner\n",
            {
                "outer/memory.max": "5000\n",
                "outer/memory.current": "4000\n",
                "outer/memory.stat": "anon 3000\ninactive_file 600\nactive_file 300\n",
                "outer/inner/memory.max": "3000\n",
                "outer/inner/memory.current": "1000\n",
            },
            5000 - 4000 + 600,
        ),
        ("0::/\n", {"memory.max": "900\n", "memory.current": "950\n"}, 0),
        ("0::/\n", {"memory.max": "max\n", "memory.current": "950\n"}, 100_000),
        ("0::/\n", {"memory.max": "200000\n", "memory.current": "0\n"}, 100_000),
        (
            "5:cpu:/elsewhere\n4:memory:/docker\n",
            {
                "memory/memory.limit_in_bytes": "4000\n",
                "memory/memory.usage_in_bytes": "3500\n",
                "memory/memory.stat": "inactive_file 50\ntotal_inactive_file 100\n",
                "memory/docker/memory.limit_in_bytes": "9223372036854771712\n",
                "memory/docker/memory.usage_in_bytes": "3000\n",
            },
            4000 - 3500 + 100,
        ),
    ],
)
def test_available_memory_is_what_the_tightest_control_group_leaves(
    cgroup: str, files: dict[str, str], spare: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a machine with 100,000 bytes free, what the least of the groups leaves; cached pages that can be given back are free."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 100_000}))
    written = {"proc/self/cgroup": cgroup, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}}
    for name, text in written.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert environment.available_bytes(tmp_path) == spare


def test_governor_and_memory_pressure_give_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A governor that saves power, processes that wait for memory and a machine that swaps are each told once."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1}, raising=False)
    monkeypatch.setattr(psutil, "cpu_percent", lambda **_: 2.0)
    monkeypatch.setattr(psutil, "swap_memory", lambda: type("Swap", (), {"percent": 30.0}))
    governor = tmp_path / "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor"
    pressure = tmp_path / "proc/pressure/memory"
    for path, text in (
        (governor, "powersave\n"),
        (pressure, "some avg10=12.60 avg60=0.00 avg300=0.00 total=5\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
    assert environment.advice(1, tmp_path) == [
        "The frequency governor is 'powersave': `cpupower frequency-set -g performance` steadies it.",
        "Processes waited for memory in 13 % of the last ten seconds: give the machine memory, or stop other work.",
        "The machine swaps: give it memory, or weigh fewer variants at once.",
    ]
    governor.write_text("performance\n", encoding="utf-8")
    pressure.write_text("some avg10=0.90 avg60=0.00 avg300=0.00 total=5\n", encoding="utf-8")
    monkeypatch.setattr(psutil, "swap_memory", lambda: type("Swap", (), {"percent": 5.0}))
    assert environment.advice(1, tmp_path) == []


@pytest.mark.parametrize(
    ("threads", "cores", "quota", "words"),
    [
        (
            4,
            2,
            None,
            "4 threads share 2 usable processors: they wait for each other; set measure.threads to at most 2,",
        ),
        (2, 1, 0.5, "2 threads share 1 usable processor: they wait for each other;"),
        (
            2,
            4,
            1.5,
            "2 threads may use 1.5 processors' worth of time (the control group's quota): calls are stopped halfway;",
        ),
        (1, 4, 0.5, "1 thread may use 0.5 processors' worth of time"),
        (2, 2, 2.0, None),
        (2, 2, None, None),
    ],
)
def test_threads_without_a_processor_each_are_told(
    threads: int, cores: int, quota: float | None, words: str | None
) -> None:
    """More threads than usable processors, or than the quota allows, give one sentence; as many as there are give none."""
    found = environment.oversubscribed(threads, cores, quota)
    assert len(found) == (words is not None)
    assert all(sentence.startswith(words or "") for sentence in found)


def test_advice_looks_at_the_threads_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of a thousand threads is told to be oversubscribed here, one of a single thread is not."""
    monkeypatch.setattr(psutil, "cpu_percent", lambda **_: 2.0)
    assert any("1000 threads share" in sentence for sentence in environment.advice(1000))
    assert not any("threads share" in sentence for sentence in environment.advice(1))


def test_like_machines_do_not_differ(tmp_path: Path) -> None:
    """A description differs from itself in nothing, nor from one that was written before quotas were."""
    facts = environment.describe(tmp_path)
    assert environment.unlike(facts, facts) == environment.unlike_software(facts, facts) == []
    older = {key: value for key, value in ALIKE.items() if key != "processor_quota"}
    assert environment.unlike(older, ALIKE) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"machine": "EPYC x4 x86_64 16 GiB"}, ["the machines are Xeon x2 x86_64 8 GiB and EPYC x4 x86_64 16 GiB"]),
        ({"instruction_sets": ["avx2", "amx_int8"]}, ["only the first has avx512f", "only the second has amx_int8"]),
        ({"processor_quota": 1.5}, ["the processor quotas are none and 1.5"]),
        ({"python": "3.12.1"}, []),
    ],
)
def test_unlike_machines_are_told_apart_in_words(change: dict[str, Any], words: list[str]) -> None:
    """Another machine, other instruction sets and another quota are differences; another Python is none of the machine's."""
    assert environment.unlike(ALIKE, {**ALIKE, **change}) == words


def test_gpus_are_compared_where_both_runs_tell_of_them() -> None:
    """Another GPU is another machine, another driver other software; a run that tells of no GPU differs in neither."""
    first = {**ALIKE, "gpu": "NVIDIA H100 x2", "gpu_driver": "580.65.06"}
    assert environment.unlike(first, {**first, "gpu": "NVIDIA L4"}) == ["the GPUs are NVIDIA H100 x2 and NVIDIA L4"]
    updated = {**first, "gpu_driver": "590.10"}
    assert environment.unlike(first, updated) == []
    assert environment.unlike_software(first, updated) == ["NVIDIA driver 580.65.06 and 590.10"]
    for without in (ALIKE, {**ALIKE, "gpu": "", "gpu_driver": ""}):
        for pair in ((first, without), (without, first)):
            assert environment.unlike(*pair) == environment.unlike_software(*pair) == []


def test_other_software_is_told_apart_in_words() -> None:
    """Other versions of Python and of a backend, and a backend that one run lacks, are listed; another tool's is not."""
    versions = {"torch": "2.12.0", "transformers": "5.23.0"}
    other = {**ALIKE, "python": "3.12.1", "versions": versions}
    assert environment.unlike_software(ALIKE, other) == [
        "python 3.11.9 and 3.12.1",
        "torch 2.13.0 and 2.12.0",
        "onnxruntime 1.31.1 and absent",
    ]


def test_the_hypervisor_flag_tells_a_virtual_machine(tmp_path: Path) -> None:
    """A processor whose flags name a hypervisor is virtual; one without the flag is not."""
    (tmp_path / "proc").mkdir()
    for flags, virtual in (("fpu avx2 hypervisor", True), ("fpu avx2", False)):
        (tmp_path / "proc/cpuinfo").write_text(f"model name\t: Xeon\nflags\t\t: {flags}\n", encoding="utf-8")
        cpu = environment.processor(tmp_path)
        assert (cpu.model, cpu.instruction_sets, cpu.virtual) == ("Xeon", ("avx2",), virtual)
