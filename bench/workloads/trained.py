"""Models that are trained on first use and kept in the user's cache folder, by the hash of code and data."""

import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from filelock import FileLock

from ...optimize import losses, training
from ...optimize.cache import cache_root
from ...optimize.files import appearing, remove_partial, sha256_of_json
from ...optimize.quiet import quiet


def trained(name: str, code: ModuleType, facts: Any, train: Callable[[Path], None]) -> Path:
    """The folder of a trained model; `train` fills it the first time.

    The key is the source of the workload's module and of the trainer, with `facts` (data hash, seed, sizes, sources of helpers).
    """
    sources = [inspect.getsource(module) for module in (code, training, losses)]
    folder = cache_root() / "trained" / f"{name}-{sha256_of_json([sources, facts])[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            remove_partial(folder.parent, f".{folder.name}.*.part")
            with appearing(folder) as partial, quiet():
                train(partial)
    return folder
