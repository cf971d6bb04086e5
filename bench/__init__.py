"""Weigh variants against each other on the user's own data and machine, and judge them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .callables import Weighing, weigh
    from .running import Options, resume, run

__all__ = ["Options", "Weighing", "resume", "run", "weigh"]


def __getattr__(name: str) -> Any:
    """Load what the package exports on first use, so that importing it stays light."""
    if name in ("Options", "resume", "run"):
        from . import running

        return getattr(running, name)
    if name in ("Weighing", "weigh"):
        from . import callables

        return getattr(callables, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
