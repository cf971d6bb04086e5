"""Plain data from files that others may have written or damaged: read strictly, and turned into dataclasses only where it fits.

Whatever is wrong is a ValueError with one sentence; the caller says which file it was and what to do.
"""

import functools
import json
import math
import tomllib
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NoReturn, TypeVar

_Kind = TypeVar("_Kind")
_WHOLE = 2**63
"""Whole numbers have 64 bits, as TOML asks for and as JSON is read elsewhere; longer ones fit no array and no float."""


def parse_json(text: str) -> Any:
    """Read JSON; NaN and infinities, which JSON does not have, are refused.

    Raises:
        ValueError: it is not JSON, nested too deeply, or holds a number that no 64 bits can.
    """
    try:
        return json.loads(text, parse_constant=_no_number, parse_int=_whole, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def parse_toml(text: str) -> dict[str, Any]:
    """Read TOML.

    Raises:
        ValueError: it is not TOML, nested too deeply, or holds a whole number that no 64 bits can.
    """
    try:
        data = tomllib.loads(text)
        if any(not -_WHOLE <= number < _WHOLE for number in _whole_numbers(data)):
            raise ValueError("it holds a whole number of more than 64 bits")
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return data


def checked(kind: type[_Kind], data: Any) -> _Kind:
    """Make a dataclass of plain data, its parts included; what the kind does not know is left out.

    Raises:
        ValueError: something is missing or of another type; the text names the first place.
    """
    from pydantic import ValidationError

    try:
        found: _Kind = _adapter(kind).validate_python(data)  # type: ignore[arg-type]  # a class is hashable
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from error
    if not _finite_throughout(found):
        raise ValueError("a number in it is not finite")
    return found


def is_inside(name: str) -> bool:
    """Whether a relative file name stays in its folder on any system: not absolute, no drive, no `..`."""
    paths = (PurePosixPath(name), PureWindowsPath(name))
    return bool(name) and not any(path.is_absolute() or path.drive or ".." in path.parts for path in paths)


@functools.cache
def _adapter(kind: type[Any]) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _finite_throughout(found: Any) -> bool:
    """Whether every float is finite: a text such as "nan" becomes a number where one is meant."""
    if isinstance(found, float):
        return math.isfinite(found)
    if isinstance(found, dict):
        return all(map(_finite_throughout, found.values()))
    if isinstance(found, tuple | list):
        return all(map(_finite_throughout, found))
    return not is_dataclass(found) or all(map(_finite_throughout, vars(found).values()))


def _whole_numbers(data: Any) -> Iterator[int]:
    if isinstance(data, dict):
        data = list(data.values())
    if isinstance(data, list):
        for part in data:
            yield from _whole_numbers(part)
    elif isinstance(data, int):
        yield data


def _whole(digits: str) -> int:
    number = int(digits)
    return number if -_WHOLE <= number < _WHOLE else _no_number(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _no_number(digits)


def _no_number(given: str) -> NoReturn:
    shown = given if len(given) <= len("-Infinity") else f"{given[:9]}..."
    raise ValueError(f"{shown} is no number that can be read")
