"""`weighbridge compare`: two existing artifacts, nothing built."""

from pathlib import Path
from typing import Annotated, Any

import typer


def command(
    a: Annotated[Path, typer.Argument(metavar="A", help="The baseline, an .onnx file.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The candidate, an .onnx file.")],
    data: Annotated[
        Path | None, typer.Option(help="Evaluation data; without it inputs are drawn, and accuracy is not judged.")
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Tokenizer folder, for text.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Labels, where they are a file of their own.")] = None,
    rules: Annotated[Path | None, typer.Option(help="TOML file with rules; without it the exit code is 0.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/<date>-<name>.")] = None,
    max_seconds: Annotated[float | None, typer.Option(min=0.1, help="Sampling time of the whole run.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A fast look: fewer examples, four replicates.")] = False,
) -> None:
    """Weigh two existing artifacts against each other."""
    from ..config import parse_config
    from ..rules_file import read_rules
    from ..running import Options
    from .console import ConsoleReporter
    from .finish import finish
    from .guess import columns_of, need_data, task_of

    need_data(data, tokenizer=tokenizer, labels=labels)
    names = _names(a, b)
    workload: dict[str, Any] = {"name": f"{names[0]}-vs-{names[1]}", "model": str(a), "task": "tabular-classification"}
    if data is not None:
        workload |= {"task": task_of(str(a), data, tokenizer), "data": str(data), "columns": columns_of(data)}
    if tokenizer is not None:
        workload["tokenizer"] = str(tokenizer)
    if labels is not None:
        workload["labels"] = str(labels)
    variants = [{"name": name, "artifact": str(path)} for name, path in zip(names, (a, b), strict=True)]
    variants[0] |= {"baseline": True}  # type: ignore[dict-item]
    gates = read_rules(rules).model_dump(mode="json", exclude_none=True) if rules else {"preset": "none"}
    config = parse_config({"workload": workload, "variants": variants, "gates": gates}, "compare")
    raise typer.Exit(finish(config, Options(out, Path(), quick, max_seconds), ConsoleReporter()))


def _names(a: Path, b: Path) -> tuple[str, str]:
    """Two different names for two files, their stems where these differ."""
    if not a.exists() or not b.exists():
        from ...optimize.errors import InputError

        raise InputError(f"{a if not a.exists() else b} does not exist; give two existing artifacts")
    first, second = _safe(a.stem), _safe(b.stem)
    return (first, second) if first != second else (f"a-{first}", f"b-{second}")


def _safe(stem: str) -> str:
    """A stem with only the letters that a variant's name may have."""
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in stem)
    return kept.strip("._-") or "artifact"
