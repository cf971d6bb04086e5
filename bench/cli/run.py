"""`weighbridge run`: build, weigh, judge, report."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


class Inconclusive(StrEnum):
    """What an undecided rule does to the exit code."""

    FAIL = "fail"
    WARN = "warn"


def command(
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="CONFIG|MODEL", help="Config file; or a model, with --data or --workload.", show_default=False
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Data for a model without a config, or of your own for a built-in workload.")
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Tokenizer folder, for a model without one.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Labels, where they are a file of their own.")] = None,
    workload: Annotated[str | None, typer.Option(help="A built-in workload with its default variants.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/<date>-<name>.")] = None,
    max_seconds: Annotated[float | None, typer.Option(min=0.1, help="Sampling time of the whole run.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A fast look: fewer examples, four replicates.")] = False,
    inconclusive: Annotated[
        Inconclusive | None,
        typer.Option(help="Whether an undecided rule fails (exit 3) or warns; default fail.", show_default=False),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be done; start nothing.")] = False,
    resume: Annotated[
        Path | None,
        typer.Option(help="Run folder of an interrupted run to finish; `latest` is the newest under runs/."),
    ] = None,
) -> None:
    """Build, weigh and judge the variants of a config; the exit code is the verdict."""
    from ..running import Options
    from .console import ConsoleReporter
    from .finish import finish, finish_interrupted
    from .gate import resolve
    from .planning import print_plan

    undecided: Literal["fail", "warn"] | None = None if inconclusive is None else inconclusive.value
    if resume is not None:
        _need_alone([config, data, tokenizer, labels, workload, out, max_seconds, quick or None, plan or None])
        raise typer.Exit(finish_interrupted(resolve(resume), undecided, ConsoleReporter()))
    chosen, base = _config(config, data, tokenizer, labels, workload)
    options = Options(out, base, quick, max_seconds, inconclusive=undecided or "fail")
    if plan:
        print_plan(chosen, options)
        return
    raise typer.Exit(finish(chosen, options, ConsoleReporter()))


def _need_alone(given: list[Any]) -> None:
    """Refuse whatever is given beside --resume and would make another run of it."""
    from ...optimize.errors import ConfigError

    if any(each is not None for each in given):
        raise ConfigError("--resume goes on with what the run was begun with: give it alone, or with --inconclusive")


def _config(
    given: str | None, data: Path | None, tokenizer: Path | None, labels: Path | None, workload: str | None
) -> tuple[Any, Path]:
    """The config that was meant, and the folder against which its paths are meant."""
    from ...optimize.errors import ConfigError
    from ..config import load_config
    from .console import standard_output
    from .guess import config_of_builtin, config_of_model, need_data

    if workload is not None:
        if tokenizer is not None:
            raise ConfigError("--tokenizer is of a model without one; a built-in workload brings its own: leave it out")
        return config_of_builtin(workload, given, data, labels), Path()
    need_data(data, tokenizer=tokenizer, labels=labels)
    if data is None:
        path = _config_file(given)
        return load_config(path), path.parent
    if given is None:
        raise ConfigError("--data needs a model: `weighbridge run MODEL --data FILE`")
    if given.endswith(".toml"):
        raise ConfigError(f"{given} is a config and names its data as workload.data: leave out --data, or set it there")
    from ..config import to_toml
    from ..running import Options, complete

    config = complete(config_of_model(given, data, tokenizer, labels), Options())
    console = standard_output()
    console.print("# the config used; save it as weighbridge.toml to keep and change it", markup=False)
    console.print(to_toml(config), markup=False, soft_wrap=True)
    return config, Path()


def _config_file(given: str | None) -> Path:
    """The config that was meant: the one of this folder where none is given."""
    from ...optimize.errors import ConfigError
    from ..config import find_config

    if given is None:
        return find_config(Path())
    if not given.endswith(".toml"):
        raise ConfigError(
            f"{given} is not a .toml config; to weigh a model without a config give its data: `weighbridge run {given} --data FILE`"
        )
    return Path(given)
