"""The machine and the software a run was made with, and what would disturb a measurement on it.

An allow-list, so that no secret of the environment gets in. What the machine counts while a run lasts is in `counters`, and
what is told of it afterwards in `disturbance`.
"""

import contextlib
import datetime
import platform
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ..optimize import artifact
from ..optimize.nvml import Gpu, gpus
from .counters import CPUS, ROOT, affinity, quota, read_text, spare_memory

TOOLS = (*artifact.TOOLS, "tensorrt", "scipy", "scikit-learn")
_INSTRUCTION_SETS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
    "bf16",
)
BACKEND_TOOLS = ("torch", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "numpy")
"""Of the tools, those whose version changes how long a call takes."""
_LOOK_SECONDS = 0.5
_BUSY_PERCENT = 15
_MUCH_SWAP_PERCENT = 20
_PRESSURE_PERCENT = 1.0
"""Share of the last ten seconds in which some process waited for memory; a machine with memory to spare shows 0.00."""


@dataclass(frozen=True)
class Processor:
    """The processor: its model, cores that this process may use, and the instruction sets that matter here."""

    model: str
    cores: int
    instruction_sets: tuple[str, ...]
    virtual: bool = False
    """Whether the processor says that a hypervisor stands between (x86 only)."""


def processor(root: Path = ROOT) -> Processor:
    """Read the processor of this machine."""
    text = read_text(root / "proc/cpuinfo")
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return Processor(
        model=fields.get("model name") or platform.processor() or platform.machine(),
        cores=len(affinity()),
        instruction_sets=tuple(name for name in _INSTRUCTION_SETS if name in flags),
        virtual="hypervisor" in flags,
    )


def versions() -> dict[str, str]:
    """The installed version of each tool; those that are not installed are left out."""
    return artifact.installed(TOOLS)


def describe(folder: Path) -> dict[str, Any]:
    """Describe machine and software as plain data; `commit` is that of the git checkout that holds `folder`, or empty."""
    cpu = processor()
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(folder),
        "machine": machine_id(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "cpu": cpu.model,
        "cores": cpu.cores,
        "affinity": list(affinity()),
        "processor_quota": quota(),
        "virtual_machine": cpu.virtual,
        "instruction_sets": list(cpu.instruction_sets),
        "memory_bytes": psutil.virtual_memory().total,
        **_gpu_facts(),
        "governor": _governor(ROOT),
        "load_average": round(psutil.getloadavg()[0], 2),
        "versions": versions(),
    }


def machine_id() -> str:
    """What two runs must have in common to be compared: processor, cores, architecture and memory in GiB."""
    cpu = processor()
    return f"{cpu.model} x{cpu.cores} {platform.machine()} {round(psutil.virtual_memory().total / 2**30)} GiB"


def _gpu_facts() -> dict[str, str]:
    """The NVIDIA GPUs (`NVIDIA A10G x4`) and their driver; both empty where none is known."""
    found: tuple[Gpu, ...] = ()
    with contextlib.suppress(Exception):  # whatever a driver does, a run that may not need it goes on
        found = gpus()
    names = Counter(each.name for each in found)
    counted = (name if number == 1 else f"{name} x{number}" for name, number in names.items())
    return {"gpu": ", ".join(counted), "gpu_driver": found[0].driver if found else ""}


def commit(folder: Path) -> str:
    """The git commit that `folder` is checked out at, `+` appended where files differ from it; empty outside git."""
    try:
        head = _git(folder, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if head and _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def available_bytes(root: Path = ROOT) -> int:
    """Memory that new processes can take: what the system has, or less where a control group leaves less."""
    free, spare = psutil.virtual_memory().available, spare_memory(root)
    return free if spare is None else min(free, spare)


def advice(threads: int = 1, root: Path = ROOT) -> list[str]:
    """Sentences about what would disturb a measurement now, each with what to do; empty on a quiet machine.

    Looks for half a second; asked while no child of ours works, for the load average would count our own builds. `threads`
    are the compute threads of every variant.
    """
    sentences = []
    busy = psutil.cpu_percent(interval=_LOOK_SECONDS)
    if busy > _BUSY_PERCENT:
        sentences.append(f"Other work takes {busy:.0f} % of this machine's processors: stop it or wait.")
    sentences += oversubscribed(threads, len(affinity()), quota(root))
    governor = _governor(root)
    if governor and governor != "performance":
        sentences.append(
            f"The frequency governor is '{governor}': `cpupower frequency-set -g performance` steadies it."
        )
    pressure = _memory_pressure(root)
    if pressure > _PRESSURE_PERCENT:
        sentences.append(
            f"Processes waited for memory in {pressure:.0f} % of the last ten seconds: give the machine memory, or stop other work."
        )
    if psutil.swap_memory().percent > _MUCH_SWAP_PERCENT:
        sentences.append("The machine swaps: give it memory, or weigh fewer variants at once.")
    return sentences


def oversubscribed(threads: int, cores: int, allowed: float | None) -> list[str]:
    """What to say where the threads of a variant have no processor each; `allowed` is the quota in processors."""
    if threads > cores:
        sentence = (
            f"{threads} threads share {cores} usable {_plural(cores, 'processor')}: they wait for each other; "
            f"set measure.threads to at most {cores}, or widen the affinity (taskset, cpuset)."
        )
        return [sentence]
    if allowed is not None and threads > allowed:
        sentence = (
            f"{threads} {_plural(threads, 'thread')} may use {allowed:g} processors' worth of time (the control group's "
            "quota): calls are stopped halfway; raise the quota, or set measure.threads lower."
        )
        return [sentence]
    return []


def unlike(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """How two machines, as `describe` tells them, differ in what a timing depends on; empty: alike, and comparable.

    Machine (processor, cores, architecture, memory), instruction sets, the control group's quota, and the GPUs where both tell
    of some: older runs tell of none, and calls on the processor need none.
    """
    differences = []
    if first.get("machine") != second.get("machine"):
        differences.append(f"the machines are {first.get('machine', 'unknown')} and {second.get('machine', 'unknown')}")
    mine, theirs = (set(each.get("instruction_sets", ())) for each in (first, second))
    for which, alone in (("first", mine - theirs), ("second", theirs - mine)):
        if alone:
            differences.append(f"only the {which} has {', '.join(sorted(alone))}")
    quotas = [each.get("processor_quota") for each in (first, second)]
    if quotas[0] != quotas[1]:
        words = ["none" if each is None else f"{each:g}" for each in quotas]
        differences.append(f"the processor quotas are {words[0]} and {words[1]}")
    return [*differences, *_told_by_both("gpu", "the GPUs are", first, second)]


def unlike_software(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """How two runs differ in software and settings that may change a timing: no bar to comparing them, but to be told."""
    ours, theirs = _software(first), _software(second)
    found = [f"{name} {ours[name]} and {theirs[name]}" for name in ours if ours[name] != theirs[name]]
    return [*found, *_told_by_both("gpu_driver", "NVIDIA driver", first, second)]


def _told_by_both(key: str, words: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """A difference in what both descriptions tell under a key, in words; none where one of them tells nothing."""
    told = [each.get(key) for each in (first, second)]
    return [f"{words} {told[0]} and {told[1]}"] if all(told) and told[0] != told[1] else []


def _software(environment: Mapping[str, Any]) -> dict[str, str]:
    settings = {name: environment.get(name) for name in ("python", "system", "governor")}
    tools = {name: environment.get("versions", {}).get(name) for name in BACKEND_TOOLS}
    return {name: str(value or "absent") for name, value in {**settings, **tools}.items()}


def _governor(root: Path) -> str:
    return read_text(root / CPUS / f"cpu{affinity()[0]}/cpufreq/scaling_governor").strip()


def _memory_pressure(root: Path) -> float:
    """The percentage of the last ten seconds in which some process waited for memory; 0 where it is not told."""
    words = read_text(root / "proc/pressure/memory").split()
    return float(words[1].removeprefix("avg10=")) if words[:1] == ["some"] else 0.0


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
