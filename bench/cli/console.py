"""How the command line speaks: one console, stages with a bar and the time left, plain lines when piped."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from ..child import Progress
from ..reporter import ignore


def standard_output() -> Console:
    """The console of results: standard output, no colour when piped."""
    return Console(highlight=False, soft_wrap=False)


def standard_error() -> Console:
    """The console of progress: standard error, so that results can be piped."""
    return Console(stderr=True, highlight=False)


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
            task = bars.add_task(name, total=1.0, words="")
            yield lambda fraction, text: bars.update(task, completed=fraction, words=text)
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
