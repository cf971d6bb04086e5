"""What the processor says of itself."""

from pathlib import Path

import pytest
from weighbridge.optimize import cpu


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model name\t: X\nflags\t\t: fpu avx512_bf16 amx_fp16\n", {"fpu", "avx512_bf16", "amx_fp16"}),
        ("Features\t: fp asimdhp bf16\nvmx flags\t: other\n", {"fp", "asimdhp", "bf16"}),
        ("", set()),
    ],
)
def test_flags_are_read_as_linux_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: set[str]
) -> None:
    """The flags of x86 and ARM processors are read from cpuinfo; other lines are not."""
    (tmp_path / "cpuinfo").write_text(text, encoding="utf-8")
    monkeypatch.setattr(cpu, "_CPUINFO", tmp_path / "cpuinfo")
    assert cpu.cpu_flags.__wrapped__() == expected


def test_without_cpuinfo_no_flag_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no cpuinfo nothing is claimed of the processor."""
    monkeypatch.setattr(cpu, "_CPUINFO", tmp_path / "absent")
    assert cpu.cpu_flags.__wrapped__() == frozenset()
