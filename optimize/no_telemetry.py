"""Import openvino and nncf so that they send no usage statistics.

Both import `openvino_telemetry` where it is installed, and nncf then makes a sender and a client id in the user's home as it is
imported, even where its own switch (the environment variable NNCF_CI) is on. Where the package cannot be imported, both use
stubs of their own: so that is what they find.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

from .quiet import quiet

_PACKAGE = "openvino_telemetry"


def without_telemetry(name: str) -> ModuleType:
    """Import a library that would send usage statistics; its printing and its warnings as it loads are kept back too."""
    with quiet(), _hidden(_PACKAGE):
        return importlib.import_module(name)


@contextlib.contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Make a package, loaded or not, impossible to import in the block; what was loaded before is put back."""
    loaded = {name: module for name, module in sys.modules.items() if name.split(".")[0] == package}
    for name in loaded:
        del sys.modules[name]
    sys.modules[package] = None  # type: ignore[assignment]  # the import system's own sign for "not there"
    try:
        yield
    finally:
        del sys.modules[package]
        sys.modules.update(loaded)
