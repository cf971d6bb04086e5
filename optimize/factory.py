"""Modules made by a user's factory, `package.module:factory`, and those that a build has saved into a folder."""

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import InputError, first_line
from .files import write_json
from .own_code import own_files
from .plain_data import parse_json
from .pruning_plan import Change, checked_changes, replay
from .source import Source
from .torch_int8 import hold_places, make_int8

ARCHITECTURE = "architecture.json"
"""The file of a built folder that says which factory makes its module, and which changes are then made to it."""
WEIGHTS = "model.safetensors"


def make_module(source: Source) -> Any:
    """Call the factory and, where given, load the weights into what it made.

    The factory is called with torch's generator seeded, so that one without trained weights gives the same model in
    every process.

    Raises:
        InputError: the factory is missing, raises or returns no module, or the weights do not fit.
    """
    import torch

    with _importable(source.search_path), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        factory = getattr(_code(source), _names(source.reference)[1])
        try:
            module = factory(**source.arguments)
        except (Exception, SystemExit) as error:
            raise InputError(f"the factory {source.reference} raised {first_line(error)}") from error
    if not isinstance(module, torch.nn.Module):
        raise InputError(
            f"the factory {source.reference} returned {type(module).__name__}; it must return a torch.nn.Module"
        )
    if source.weights is not None:
        load_weights(module, Path(source.weights), source.reference)
    return module


def load_weights(module: Any, path: Path, reference: str) -> None:
    """Load a safetensors file into a module, tied weights included.

    Raises:
        InputError: the file is missing or damaged, or its tensors are not the module's.
    """
    from safetensors.torch import load_model

    if not path.is_file():
        raise InputError(f"the weights {path} are not a file; give a .safetensors file")
    try:
        load_model(module, str(path))
    except Exception as error:
        raise InputError(f"the weights {path} do not fit the module of {reference}: {first_line(error)}") from error


def fill(module: Any, changes: Sequence[Change], path: Path, reference: str) -> Any:
    """Make structural changes to a fresh module, then load saved weights into it in the precision of their file.

    Where a plan beside the weights names layers that multiply 8-bit weights, they take the places of the float ones.

    Raises:
        InputError: the file is damaged, or its tensors are not the changed module's.
        BuildError: a change is of a later release or does not fit the module.
    """
    from safetensors.torch import load_file

    replay(module, changes)
    try:
        saved = load_file(str(path))
    except Exception as error:
        raise InputError(f"the weights {path} cannot be read ({first_line(error)}); build the model again") from error
    places = hold_places(module, path.parent, saved)
    for name, tensor in module.state_dict(keep_vars=True).items():
        if name not in saved:
            continue
        if saved[name].is_floating_point() != tensor.is_floating_point():
            raise InputError(
                f"the weights {path} do not fit the module of {reference}: {name} is {saved[name].dtype} instead of {tensor.dtype}"
            )
        tensor.data = tensor.data.to(saved[name].dtype)
    load_weights(module, path, reference)
    make_int8(module, path.parent, places)
    return module.eval()


@dataclass(frozen=True)
class Architecture:
    """Where a built folder's module comes from: a factory, and the structural changes made to what it returns."""

    source: Source
    changes: tuple[Change, ...] = ()

    def write(self, folder: Path) -> None:
        """Lay it beside the folder's weights."""
        write_json(folder / ARCHITECTURE, {"source": self.source.to_dict(), "changes": list(self.changes)})


def is_built(reference: str | Path) -> bool:
    """Whether a reference is a folder that a build has saved a factory's module into."""
    return (Path(reference) / ARCHITECTURE).is_file()


def read_architecture(folder: Path) -> Architecture:
    """The architecture of a built folder.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / ARCHITECTURE
    try:
        facts = parse_json(path.read_text(encoding="utf-8"))
        return Architecture(Source.from_dict({**facts["source"], "weights": None}), checked_changes(facts["changes"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} does not say how the module is made ({' '.join(str(error).split())}); build the model again"
        ) from error


def built_module(folder: Path) -> Any:
    """The module of a built folder, in the precision of its file.

    Raises:
        InputError: the folder's files are damaged, or the factory no longer makes the architecture that was saved.
        BuildError: a change is of a later release or does not fit the module.
    """
    architecture = read_architecture(folder)
    source = architecture.source
    return fill(make_module(source), architecture.changes, folder / WEIGHTS, source.reference)


def source_files(source: Source) -> tuple[Path, ...]:
    """The Python files that a factory is written in, in the order of their modules' names.

    These are the module that is named, the one that defines it, and all that they import, as far as it is not installed.
    """
    with _importable(source.search_path):
        code = _code(source)
        defined_in = getattr(getattr(code, _names(source.reference)[1]), "__module__", None)
        modules = (code, sys.modules.get(str(defined_in)))
        return own_files(module for module in modules if module is not None)


def _names(reference: str) -> tuple[str, str]:
    name, _, attribute = reference.partition(":")
    if not name or not attribute:
        raise InputError(f"model '{reference}' is no factory; write package.module:factory")
    return name, attribute


def _code(source: Source) -> ModuleType:
    """Import the factory's module."""
    name, attribute = _names(source.reference)
    try:
        code = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise InputError(f"the factory's module {name} cannot be imported: {first_line(error)}") from error
    _refuse_namesake(code, name, source.search_path)
    if not callable(getattr(code, attribute, None)):
        raise InputError(
            f"module {name} ({getattr(code, '__file__', 'built in')}) has no function '{attribute}'; "
            "give the name of a function that returns the model"
        )
    return code


def _refuse_namesake(code: ModuleType, name: str, search_path: str | None) -> None:
    """Refuse a module that was imported from elsewhere before and hides the one on the search path."""
    if search_path is None:
        return
    wanted = Path(search_path, *name.split("."))
    files = [path.resolve() for path in (wanted.with_suffix(".py"), wanted / "__init__.py") if path.is_file()]
    loaded = getattr(code, "__file__", None)
    if files and loaded and Path(loaded).resolve() not in files:
        raise InputError(f"module {name} of {search_path} is hidden by {loaded}, imported before it; rename the module")


@contextlib.contextmanager
def _importable(search_path: str | None) -> Iterator[None]:
    """Have the factory's folder first on the import path while the block runs."""
    if search_path is None:
        yield
        return
    importlib.invalidate_caches()
    sys.path.insert(0, search_path)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the user's code may have taken it away itself
            sys.path.remove(search_path)
