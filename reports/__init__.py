"""Render what a run found: HTML, Markdown, CSV, JUnit, tables. Needs no torch, ONNX Runtime or TensorRT."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .rendering import render, render_benchmarks, render_many

__all__ = ["render", "render_benchmarks", "render_many"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import rendering

        return getattr(rendering, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
