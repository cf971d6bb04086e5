"""What this machine's processor computes natively."""

import functools
import platform
from pathlib import Path
from typing import Literal

_CPUINFO = Path("/proc/cpuinfo")
FP16 = frozenset({"amx_fp16", "avx512_fp16", "asimdhp"})
"""Flags of processors that multiply FP16 numbers (x86 and ARM)."""
BF16 = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
"""Flags of processors that multiply BF16 numbers (x86 and ARM)."""

VNNI = frozenset({"avx512_vnni", "avx_vnni"})
"""Flags of x86 processors that add up 8-bit products without overflow."""


@functools.cache
def cpu_flags() -> frozenset[str]:
    """The instruction-set flags of the processor as Linux names them; empty where they cannot be read."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(word for line in lines if line.startswith(("flags", "Features")) for word in line.split()[2:])


def int8_target() -> Literal["arm", "x86", "x86-vnni"]:
    """The kind of 8-bit arithmetic of this processor: ARM's, or x86's with or without VNNI."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return "arm"
    return "x86-vnni" if cpu_flags() & VNNI else "x86"
