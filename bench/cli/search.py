"""`weighbridge search`: sensitivity and rollback search."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    config: Annotated[Path | None, typer.Argument(help="Config file.")] = None,
    max_drop: Annotated[float, typer.Option(help="Accuracy budget, as a fraction.")] = 0.01,
) -> None:
    """Search for the lightest variant that keeps its accuracy (not available yet)."""
    from ...optimize.errors import NotAvailableYetError

    del config, max_drop
    raise NotAvailableYetError("search is not available yet in this release; list variants in a config and `run` it")
