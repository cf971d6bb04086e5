"""Hashes, and files that appear whole or not at all."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_WORK = "weighbridge-work-"
_WORK_NAME = re.compile(rf"{_WORK}[a-z0-9_]{{8}}")


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_json(data: Any) -> str:
    """Return the SHA-256 of plain data in canonical JSON (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, renamed over it at the end, removed where the block raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)
        _sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside `folder`, renamed to it at the end, removed where the block raises.

    Where another process has put the folder there meanwhile, that one stays: its content has the same key.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        yield partial
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def holding(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a folder against other processes while the block runs; the system lets go of it when this process dies.

    Several may hold it `shared`, to have it stay; whoever would hold it alone is refused meanwhile.

    Raises:
        BlockingIOError: another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """Give a folder in the system's temporary one, removed at the end, and with it what processes that were killed left there."""
    remove_abandoned()
    parent = Path(tempfile.gettempdir())
    making = Path(tempfile.mkdtemp(prefix=f".{_WORK}", dir=parent))
    with holding(making):
        folder = making.rename(parent / making.name[1:])  # not before it is held: another would take it for abandoned
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    remove_abandoned()


def remove_abandoned() -> None:
    """Remove the work folders in the system's temporary one that no process holds."""
    for path in Path(tempfile.gettempdir()).iterdir():
        if _WORK_NAME.fullmatch(path.name):
            # In use, another user's, or gone at this moment.
            with contextlib.suppress(OSError), holding(path):
                shutil.rmtree(path, ignore_errors=True)


def remove_partial(folder: Path, pattern: str = "**/.*.part") -> None:
    """Remove what a killed process left half-written in a folder: files and folders of `replacing` and `appearing`."""
    for path in sorted(folder.glob(pattern)):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Have a file on the disk, so that not even a power cut leaves its name without its content."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, data: Any) -> None:
    """Write plain data as indented JSON, whole or not at all; NaN and infinities are refused.

    Half of a surrogate pair, which UTF-8 cannot hold, is written as the escape that JSON has for it.
    """
    text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_text(path, text.encode("utf-8", "backslashreplace").decode("utf-8"))
