"""Weigh variants against each other on the user's own data and machine, and judge them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .running import Options, run

__all__ = ["Options", "run"]


def __getattr__(name: str) -> Any:
    """Load `run` and `Options` on first use, so that importing the package stays light."""
    if name in __all__:
        from . import running

        return getattr(running, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
