"""A function without arguments in the place of an opened model: as it stands, or found by name in a fresh process."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from ..optimize.errors import InputError, first_line

Function = Callable[[], object]


@dataclass(frozen=True)
class OpenedFunction:
    """What a worker times: `infer` calls the function; there is nothing to load and nothing is looked at."""

    function: Function
    clock_ns: Callable[[], int]

    def infer(self, nothing: Any) -> None:
        """Call the function once."""
        del nothing
        self.function()


def name_of(function: Function) -> str | None:
    """Return `module:qualname` where that leads to this very object; None where no name does.

    A lambda, a closure, a bound method, a partial and whatever `__main__` defines have no such name.
    """
    module, path = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(path, str) or module == "__main__" or "<" in path:
        return None
    name = f"{module}:{path}"
    try:
        return name if find(name) is function else None
    except InputError:
        return None


def find(name: str) -> Function:
    """Import the function of that name, `module:qualname`.

    Raises:
        InputError: its module cannot be imported here, or does not hold it.
    """
    module, _, path = name.partition(":")
    try:
        found: Function = attrgetter(path)(importlib.import_module(module))
    except Exception as error:
        raise InputError(f"{name} cannot be imported in a fresh process ({first_line(error)})") from error
    return found
