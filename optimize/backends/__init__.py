"""One file a backend, `<name>_backend.py`, with a `BACKEND` that answers the four questions of base.py.

No backend's library is imported before a model is built or opened with it.
"""

import functools
import importlib
import pkgutil

from ..errors import ConfigError, one_of
from .base import Backend

_SUFFIX = "_backend"


@functools.cache
def backend_names() -> tuple[str, ...]:
    """The names of every backend, sorted."""
    names = (info.name for info in pkgutil.iter_modules(__path__))
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)))


def backend(name: str) -> Backend:
    """Return the backend of that name.

    Raises:
        ConfigError: there is none; the text names the nearest.
    """
    if name not in backend_names():
        raise ConfigError(one_of("backend", name, backend_names()))
    found: Backend = importlib.import_module(f"{__name__}.{name}{_SUFFIX}").BACKEND
    return found
