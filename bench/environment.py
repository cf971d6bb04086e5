"""The machine and the software a run was made with: an allow-list, so that no secret of the environment gets in."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

TOOLS = (
    "weighbridge",
    "torch",
    "transformers",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "openvino",
    "nncf",
    "tensorrt",
    "numpy",
    "scipy",
    "scikit-learn",
)
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
_LOOK_SECONDS = 0.5
_BUSY_PERCENT = 15
_MUCH_SWAP_PERCENT = 20
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


@dataclass(frozen=True)
class Processor:
    """The processor: its model, cores that this process may use, and the instruction sets that matter here."""

    model: str
    cores: int
    instruction_sets: tuple[str, ...]


def processor() -> Processor:
    """Read the processor of this machine."""
    text = _read(Path("/proc/cpuinfo"))
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return Processor(
        model=fields.get("model name") or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        instruction_sets=tuple(name for name in _INSTRUCTION_SETS if name in flags),
    )


def versions() -> dict[str, str]:
    """The installed version of each tool; those that are not installed are left out."""
    found = {}
    for name in TOOLS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


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
        "instruction_sets": list(cpu.instruction_sets),
        "memory_bytes": psutil.virtual_memory().total,
        "governor": _read(_GOVERNOR).strip(),
        "load_average": round(psutil.getloadavg()[0], 2),
        "versions": versions(),
    }


def machine_id() -> str:
    """What two runs must have in common to be compared: processor, cores, architecture and memory in GiB."""
    cpu = processor()
    return f"{cpu.model} x{cpu.cores} {platform.machine()} {round(psutil.virtual_memory().total / 2**30)} GiB"


def commit(folder: Path) -> str:
    """The git commit that `folder` is checked out at, `+` appended where files differ from it; empty outside git."""
    try:
        head = _git(folder, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if head and _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def available_bytes() -> int:
    """Memory that new processes can take: the system's, or what the control group leaves."""
    free = psutil.virtual_memory().available
    limit, used = (_read(Path(f"/sys/fs/cgroup/memory.{name}")).strip() for name in ("max", "current"))
    return min(free, int(limit) - int(used)) if limit.isdigit() and used.isdigit() else free


def advice() -> list[str]:
    """Sentences about what would disturb a measurement now, each with what to do; empty on a quiet machine.

    Looks for half a second; asked while no child of ours works, for the load average would count our own builds.
    """
    sentences = []
    busy = psutil.cpu_percent(interval=_LOOK_SECONDS)
    if busy > _BUSY_PERCENT:
        sentences.append(f"Other work takes {busy:.0f} % of this machine's processors: stop it or wait.")
    governor = _read(_GOVERNOR).strip()
    if governor and governor != "performance":
        sentences.append(
            f"The frequency governor is '{governor}': `cpupower frequency-set -g performance` steadies it."
        )
    if psutil.swap_memory().percent > _MUCH_SWAP_PERCENT:
        sentences.append("The machine swaps: give it memory, or weigh fewer variants at once.")
    return sentences


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
