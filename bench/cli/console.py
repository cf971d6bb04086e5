"""How the command line speaks: one console, stages with a bar and the time left, plain lines when piped.

Names, labels and texts come from files of others: what would steer a terminal is shown, never obeyed, and `[red]` is no colour.
"""

import contextlib
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.segment import Segment

from ..child import Progress
from ..reporter import ignore

_STEERING = ("Cc", "Cs", "Zl", "Zp")
"""Categories of Unicode that print nothing but act: controls, halves of surrogate pairs, separators of lines."""
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that turn the direction of what follows them, so that a name reads as another."""


def plain(text: str) -> str:
    r"""Text with everything that steers a terminal written out; a new line stays one.

    >>> plain("red \x1b[31m, turned \u202e")
    'red \\x1b[31m, turned \\u202e'
    """
    return "".join(_written_out(letter) if _steers(letter) else letter for letter in text)


def _steers(letter: str) -> bool:
    return letter != "\n" and (unicodedata.category(letter) in _STEERING or letter in _TURNING)


def _written_out(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


def standard_output() -> Console:
    """The console of results: standard output, no colour when piped."""
    return _careful(Console(markup=False, emoji=False, highlight=False, soft_wrap=False))


def standard_error() -> Console:
    """The console of progress: standard error, so that results can be piped."""
    return _careful(Console(stderr=True, markup=False, emoji=False, highlight=False))


def _careful(console: Console) -> Console:
    console.push_render_hook(_Plainly())
    return console


class _Plainly(RenderHook):
    """Has whatever is printed rendered as plain text with the console's own colours."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Plain(each) for each in renderables]


@dataclass(frozen=True)
class _Plain:
    """What is printed, its texts made plain; rich's own commands to the terminal stay."""

    printed: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from _made_plain(console.render(self.printed, options))


def _made_plain(segments: Iterable[Segment]) -> Iterator[Segment]:
    for segment in segments:
        yield segment if segment.control else Segment(plain(segment.text), segment.style)


class ConsoleReporter:
    """Draws each stage of a run as a bar on a terminal, as one line a stage elsewhere."""

    def __init__(self) -> None:
        self._console = standard_error()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """Show a stage while the block runs."""
        if not self._console.is_terminal:
            self._console.print(name, markup=False)
            yield ignore
            return
        with Bars(*_columns(), console=self._console) as bars:
            task = bars.add_task(plain(name), total=1.0, words="")
            yield lambda fraction, text: bars.update(task, completed=fraction, words=plain(text))
            bars.update(task, completed=1.0)

    def tell(self, sentence: str) -> None:
        """Print a sentence."""
        self._console.print(sentence, markup=False)


def _columns() -> tuple[SpinnerColumn | TextColumn | BarColumn | TimeElapsedColumn | TimeRemainingColumn, ...]:
    return (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}", markup=False),
    )
