"""The artifact cache: variants by content, built once, noticed when damaged."""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from .errors import BuildError, InputError
from .files import appearing, holding, remove_partial, sha256_of_file, write_text
from .variant import MANIFEST, Variant

Tell = Callable[[str], None]
WAITING = "waiting for another process that builds the same variant"
"""What is told while another holds the lock; who hears of nothing else had it from the cache."""
_KEY = re.compile(r"[0-9a-f]{32}")
_SEAL = "seal"


def cache_root() -> Path:
    """Where everything is cached: $WEIGHBRIDGE_CACHE, else the user's cache folder."""
    given = os.environ.get("WEIGHBRIDGE_CACHE")
    return Path(given) if given else Path(platformdirs.user_cache_dir("weighbridge"))


class ArtifactCache:
    """Variants in folders named by key; a key is the hash of all that decides the artifact.

    <root>/<key>/            a variant, sealed with its key and the hash of its manifest; held by each run that uses it
    <root>/<key>.lock        held while it is built
    <root>/.<key>.*.part/    being built
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or cache_root() / "artifacts"

    @contextlib.contextmanager
    def locked(self, key: str, tell: Tell | None = None) -> Iterator[None]:
        """Hold the key's lock, so that two processes build one variant once; `tell` hears of a wait."""
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / f"{key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if tell is not None:
                tell(WAITING)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def get(self, key: str, tell: Tell | None = None) -> Variant | None:
        """The variant of that key; None where there is none. A damaged one is removed, and `tell` hears why."""
        folder = self.root / key
        if not folder.is_dir():
            return None
        variant, damage = _read(folder)
        if not damage:
            return variant
        if tell is not None:
            tell(f"a damaged artifact was removed and is built again: {damage}")
        shutil.rmtree(folder)
        return None

    @contextlib.contextmanager
    def adding(self, key: str) -> Iterator[Path]:
        """Give a folder to build in; it appears under the key when the block ends well. The key's lock must be held."""
        remove_partial(self.root, f".{key}.*.part")
        with appearing(self.root / key) as folder:
            yield folder
            write_text(folder / _SEAL, _seal(folder, key))

    def variants(self) -> tuple[Variant, ...]:
        """Every variant whose manifest can be read, the newest first."""
        read = (_manifest(folder) for folder in self._folders())
        found = [variant for variant, _ in read if variant is not None]
        return tuple(sorted(found, key=lambda variant: variant.folder.stat().st_mtime, reverse=True))

    def verify(self) -> dict[str, str]:
        """What is wrong with each key's artifact: empty where every file has the hash of its manifest."""
        return {folder.name: _read(folder)[1] for folder in self._folders()}

    def clear(self) -> int:
        """Remove every artifact and what interrupted builds left behind; returns the number of artifacts removed.

        One that a run uses or builds at this moment is left alone, as is anything that is not the cache's own.
        """
        removed = 0
        for folder in self._folders():  # one that is in use, or that another has cleared meanwhile, is passed over
            with self.locked(folder.name), contextlib.suppress(BlockingIOError, FileNotFoundError), holding(folder):
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
        for path in self._leftovers():
            self._remove_unless_building(path)
        return removed

    def _folders(self) -> tuple[Path, ...]:
        if not self.root.is_dir():
            return ()
        return tuple(sorted(path for path in self.root.iterdir() if path.is_dir() and _KEY.fullmatch(path.name)))

    def _leftovers(self) -> tuple[Path, ...]:
        return tuple(self.root.glob(".*.part")) if self.root.is_dir() else ()

    def _remove_unless_building(self, path: Path) -> None:
        lock = FileLock(self.root / f"{path.name.split('.')[1]}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return
        try:
            shutil.rmtree(path, ignore_errors=True)
        finally:
            lock.release()


@contextlib.contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Have an artifact stay in the cache while the block runs, whoever clears it; several may use one at once.

    Raises:
        BuildError: it was cleared away already.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(holding(folder, shared=True))
        except (BlockingIOError, FileNotFoundError) as error:
            raise BuildError(
                f"{folder} was cleared from the cache before it could be used; start again, and do not clear the cache meanwhile"
            ) from error
        yield


def _manifest(folder: Path) -> tuple[Variant | None, str]:
    try:
        return Variant.read(folder), ""
    except InputError as error:
        return None, str(error)


def _read(folder: Path) -> tuple[Variant | None, str]:
    """A variant and what is wrong with it."""
    variant, damage = _manifest(folder)
    return variant, damage or _broken_seal(folder) or (variant.damage() if variant is not None else "")


def _broken_seal(folder: Path) -> str:
    """Say that a manifest was changed, or that a whole variant lies under a key that is not its own."""
    path = folder / _SEAL
    if path.is_file() and path.read_bytes() == _seal(folder, folder.name).encode():
        return ""
    return f"{folder} was not sealed under its key with its manifest: one of them is another's, or was changed"


def _seal(folder: Path, key: str) -> str:
    return f"{key} {sha256_of_file(folder / MANIFEST)}\n"
