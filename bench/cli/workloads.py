"""`weighbridge workloads`: the built-in workloads."""

_OWN_DATA = {
    "text-classification": "texts with labels (csv, tsv, jsonl, parquet)",
    "image-classification": "images (idx, npz) and labels",
    "tabular-classification": "numbers with labels (csv, tsv, jsonl, parquet, npz)",
    "text-generation": "text (txt); prompts to evaluate (csv, ...)",
}


def command() -> None:
    """List the built-in workloads; use one with `weighbridge run --workload NAME [--data FILE]`."""
    from rich.table import Table

    from ..workloads import builtin, builtin_names
    from .console import standard_output

    table = Table()
    table.add_column("name", no_wrap=True)
    for heading in ("what it is", "your own data"):
        table.add_column(heading, overflow="fold")
    for name in builtin_names():
        workload = builtin(name)
        model = "; a model to start from" if workload.takes_model else ""
        table.add_row(name, workload.description, f"{_OWN_DATA[workload.task]}{model}")
    standard_output().print(table)
