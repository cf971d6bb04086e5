"""How a run tells what it is doing; the command line draws it, Python callers may leave it silent."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

from .child import Progress


class Reporter(Protocol):
    """Told of every stage of a run."""

    def stage(self, name: str) -> contextlib.AbstractContextManager[Progress]:
        """Enter a stage; the value is called with the fraction done (0 to 1) and a few words."""

    def tell(self, sentence: str) -> None:
        """Say a sentence that the user should read."""


class Silent:
    """Tells nobody."""

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """Run the stage without a word."""
        del name
        yield ignore

    def tell(self, sentence: str) -> None:
        """Keep the sentence to itself; it is in the results too."""


def ignore(fraction: float, text: str) -> None:
    """Progress that nobody is told of."""
    del fraction, text
