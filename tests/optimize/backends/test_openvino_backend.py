"""OpenVINO: what stands in its way is said; nothing is pretended."""

from pathlib import Path
from typing import Any

import pytest
from weighbridge.optimize.backends import openvino_backend
from weighbridge.optimize.backends.base import OpenOptions
from weighbridge.optimize.backends.openvino_backend import BACKEND
from weighbridge.optimize.errors import NotAvailableYetError


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package is a reason with its command."""
    monkeypatch.setattr(openvino_backend.importlib.util, "find_spec", lambda _: None)
    absent = BACKEND.availability()
    assert (absent.usable, absent.reason, absent.remedy) == (False, "openvino is not installed", "pip install openvino")


def test_with_the_package_it_is_not_available_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package shows its version, and that this release does not build for it."""
    monkeypatch.setattr(openvino_backend.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(openvino_backend.metadata, "version", lambda _: "2026.3")
    there = BACKEND.availability()
    assert (there.usable, there.version) == (False, "2026.3")
    assert "OpenVINO is not available yet" in there.reason


def test_nothing_is_pretended(tmp_path: Path) -> None:
    """Building, opening and auditing are refused as not available yet, with what to use instead."""
    nothing: Any = None
    for call in (
        lambda: BACKEND.default_steps("fp32", nothing),
        lambda: BACKEND.build(nothing, tmp_path),
        lambda: BACKEND.open(tmp_path, (), nothing, OpenOptions()),
        lambda: BACKEND.audit(tmp_path, (), "fp32"),
    ):
        with pytest.raises(
            NotAvailableYetError, match="OpenVINO is not available yet in this release; use onnxruntime"
        ):
            call()
    assert BACKEND.note("fp32", ()) == ""
