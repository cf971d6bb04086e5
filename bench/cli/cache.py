"""`weighbridge cache`: look at, check and empty the artifact cache."""

import typer

app = typer.Typer(help="The artifact cache: list, verify or clear it.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_() -> None:
    """List the cached artifacts, the newest first."""
    from rich.table import Table

    from ...optimize.cache import ArtifactCache
    from .console import standard_output

    cache = ArtifactCache()
    table = Table(title=f"artifacts in {cache.root}", title_justify="left")
    for heading in ("key", "backend", "precision", "MB", "steps"):
        table.add_column(heading, overflow="fold")
    for variant in cache.variants():
        manifest = variant.manifest
        steps = ", ".join(str(record.step.get("use", "")) for record in manifest.steps)
        table.add_row(
            variant.folder.name[:12], manifest.backend, manifest.precision, f"{manifest.bytes / 1e6:.2f}", steps
        )
    standard_output().print(table)


@app.command()
def clear() -> None:
    """Delete the cached artifacts; those that a run uses or builds at this moment stay."""
    from ...optimize.cache import ArtifactCache

    cache = ArtifactCache()
    removed, left = cache.clear(), len(cache.verify())
    typer.echo(f"{removed} artifacts removed" + (f"; {left} in use were left" if left else ""))


@app.command()
def verify() -> None:
    """Check every cached artifact against its manifest; damaged ones are rebuilt at their next use (exit 1)."""
    from ...optimize.cache import ArtifactCache

    found = ArtifactCache().verify()
    damaged = {key: why for key, why in found.items() if why}
    for key, why in damaged.items():
        typer.echo(f"{key[:12]}: {why}")
    typer.echo(f"{len(found) - len(damaged)} of {len(found)} artifacts are whole")
    raise typer.Exit(1 if damaged else 0)
