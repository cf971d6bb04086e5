"""Build lighter variants of a trained model and prove that each is what its name says.

    from weighbridge.optimize import Recipe, optimize

    variant = optimize("checkpoints/intents", Recipe("onnxruntime", "int8"), examples=examples)

The names are loaded when they are first used: importing the package loads no inference library.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .build import adopt, optimize
    from .model import Examples
    from .recipe import Recipe
    from .variant import Variant

__all__ = ["Examples", "Recipe", "Variant", "adopt", "optimize"]

_HOMES = {"Examples": "model", "Recipe": "recipe", "Variant": "variant", "adopt": "build", "optimize": "build"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
