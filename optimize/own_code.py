"""The Python files that a user's own code is written in: those of a module, and of all that it imports and is not installed."""

import ast
import contextlib
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from importlib.util import find_spec, resolve_name
from pathlib import Path
from types import ModuleType

_STANDARD = Path(ast.__file__).resolve().parent
"""Where Python's own library lies."""
_SITES = ("site-packages", "dist-packages")
_OURS = __name__.partition(".")[0]
"""This package, whose release is part of every key by itself."""


def own_files(modules: Iterable[ModuleType]) -> tuple[Path, ...]:
    """The files of modules and of all that they import, however indirectly and wherever in their text, by dotted name.

    Imports are read from the text and looked for on the import path: nothing is run, so that it does not matter what was
    imported before. An installed package is not followed; its modules count where they are given.
    """
    given = ((module.__name__, getattr(module, "__file__", None)) for module in modules)
    left = {name: Path(file) for name, file in given if file}
    found: dict[str, Path] = {}
    asked = set(left)
    while left:
        name, path = left.popitem()
        found[name] = path
        new = _imported(name, path) - asked
        asked |= new
        left |= {each: file for each in new if (file := _own_file_of(each)) is not None}
    return tuple(path for _, path in sorted(found.items()))


def _imported(name: str, path: Path) -> set[str]:
    """The modules that a module imports, and the packages in which it and they lie; none of an installed one."""
    if _is_installed(path):
        return set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    named = (name, *_imports(path, package))
    return {part for imported in named for part in _with_packages(imported)}


def _own_file_of(name: str) -> Path | None:
    """The text of a module that is neither installed nor of this package; None of others."""
    file = _file_of(name) if name.partition(".")[0] != _OURS else None
    return file if file is not None and not _is_installed(file) else None


def _with_packages(name: str) -> Iterator[str]:
    """A module's name, and those of the packages in which it lies."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _imports(path: Path, package: str) -> Iterator[str]:
    """What a file's import statements name, that which may be no module included; nothing where it is no Python text."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (module := _absolute(node, package)):
            yield from (module, *(f"{module}.{alias.name}" for alias in node.names))


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The dotted name that is imported from; empty where it lies above the package, so that the import must fail."""
    try:
        return resolve_name("." * node.level + (node.module or ""), package)
    except ImportError:
        return ""


def _file_of(name: str) -> Path | None:
    """The text of a module, as it comes first on the import path; None where it has none, as a compiled one and a bare folder."""
    for place in _places(name):
        for path in (place / "__init__.py", place.parent / f"{place.name}.py"):
            if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises of a folder that may not be entered
                return path
    return None


def _places(name: str) -> Iterator[Path]:
    """Where a module may lie, its suffix left out: on the import path, or where a finder says it does.

    A package that is installed to be edited may have a finder of its own.
    """
    top, *parts = name.split(".")
    yield from (Path(folder, top, *parts) for folder in sys.path)
    with contextlib.suppress(ImportError, ValueError):  # of a name that is no module, or of a module without a finder
        spec = find_spec(top)
        if spec is not None and spec.submodule_search_locations is not None:
            yield from (Path(folder, *parts) for folder in spec.submodule_search_locations)
        elif spec is not None and spec.origin is not None and not parts:
            yield Path(spec.origin).with_suffix("")


def _is_installed(path: Path) -> bool:
    """Whether a file belongs to Python itself or to an installed package, be it by a link."""
    place = path.resolve()
    return place.is_relative_to(_STANDARD) or any(folder in _SITES for folder in (*path.parts, *place.parts))
