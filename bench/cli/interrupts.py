"""What an interrupt does: it unwinds like an exception, and whoever began something says how to go on with it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import typer

from ..journal import JOURNAL
from ..search_findings import FOLDER as SEARCH
from .console import plain


class Terminated(BaseException):
    """SIGTERM arrived; unwinds like a keyboard interrupt, so that children end and files are whole."""


@contextlib.contextmanager
def going_on_with(command: str, folder: Path) -> Iterator[None]:
    """Where the block is interrupted, say which command goes on with `folder`, if there is something to go on with."""
    try:
        yield
    except (KeyboardInterrupt, Terminated):
        if _holds_work(folder):
            sentence = f"interrupted; `{command} --resume {folder}` goes on from here"
        else:
            sentence = "interrupted before anything was finished; start it again"
        typer.echo(plain(sentence), err=True)  # not wrapped: it is there to be copied
        raise


def _holds_work(folder: Path) -> bool:
    return (folder / JOURNAL).is_file() or (folder / SEARCH).is_dir()
