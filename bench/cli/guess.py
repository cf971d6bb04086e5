"""A config for a model that was given without one, from what the files themselves say."""

import csv
import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...optimize.errors import ConfigError, InputError
from ...optimize.plain_data import checked
from ..config import Config, parse_config
from ..workloads.data import is_file
from ..workloads.own_data import check_builtin

_TABLE_SUFFIXES = (".csv", ".tsv")
_LONGEST_LINE = 2**20
"""So much of a line is read at once: a packed file may hold one without end."""


@dataclass(frozen=True)
class _Named:
    """What a transformers config says of the model's task."""

    architectures: tuple[str, ...] | None = None


def need_data(data: Path | None, **given: Path | None) -> None:
    """Refuse options that say how data is read where none is given.

    Raises:
        ConfigError: there is one.
    """
    lonely = next((name for name, path in given.items() if path is not None), None)
    if data is None and lonely is not None:
        raise ConfigError(
            f"--{lonely} belongs to --data, which is not given: give both, or neither; a config names its own as workload.{lonely}"
        )


def config_of_model(model: str, data: Path, tokenizer: Path | None, labels: Path | None) -> Config:
    """The config of `weighbridge run MODEL --data FILE`: default variants, preset no-regression.

    Raises:
        ConfigError: what the model is for cannot be told from its files.
        InputError: the data is missing.
    """
    if not is_file(data):
        raise InputError(f"data {data} is not a file")
    task = task_of(model, data, tokenizer)
    workload: dict[str, Any] = {"name": Path(model).stem or "model", "task": task, "model": model, "data": str(data)}
    if tokenizer is not None:
        workload["tokenizer"] = str(tokenizer)
    if labels is not None:
        workload["labels"] = str(labels)
    if task in ("text-classification", "tabular-classification"):
        workload["columns"] = columns_of(data)
    return parse_config({"workload": workload, "gates": {"preset": "no-regression"}}, "the model's config")


def config_of_builtin(name: str, model: str | None, data: Path | None, labels: Path | None) -> Config:
    """The config of `weighbridge run [MODEL] --workload NAME [--data FILE]`: default variants, preset no-regression.

    Raises:
        ConfigError: there is no such workload, a config is given beside it, or labels without data.
        InputError: the data is missing.
    """
    if model is not None and model.endswith(".toml"):
        raise ConfigError(f"{model} is a config and names what is weighed; leave out --workload, or name {name} in it")
    workload: dict[str, Any] = {"name": name, "builtin": name}
    if model is not None:
        workload["model"] = model
    if data is not None:
        if not is_file(data):
            raise InputError(f"data {data} is not a file")
        workload |= {"data": str(data), "columns": columns_of(data)}
    if labels is not None:
        workload["labels"] = str(labels)
    config = parse_config({"workload": workload, "gates": {"preset": "no-regression"}}, "--workload")
    check_builtin(config.workload)
    return config


def task_of(model: str, data: Path, tokenizer: Path | None) -> str:
    """Tell what a model is for: from its transformers config, from a tokenizer, or from the kind of data.

    Raises:
        ConfigError: none of them says it.
    """
    if is_file(Path(model) / "config.json"):
        return _task_of_transformers(Path(model) / "config.json")
    if tokenizer is not None:
        return "text-classification"
    suffixes = [suffix for suffix in data.suffixes if suffix != ".gz"]
    if "idx" in data.name or suffixes == [".npz"]:
        return "image-classification"
    if suffixes and suffixes[-1] in (*_TABLE_SUFFIXES, ".parquet", ".jsonl"):
        return "tabular-classification"
    raise ConfigError(
        f"what {model} is for cannot be told from {data.name}; write a config with workload.task (`weighbridge init`)"
    )


def _task_of_transformers(path: Path) -> str:
    try:
        named = checked(_Named, json.loads(path.read_text(encoding="utf-8"))).architectures
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a readable transformers config: {error}") from error
    architectures = " ".join(named or ())
    if "CausalLM" in architectures or "LMHeadModel" in architectures:
        return "text-generation"
    if "ForSequenceClassification" in architectures:
        return "text-classification"
    raise ConfigError(
        f"{path} names the architecture '{architectures or 'none'}'; allowed are ...ForSequenceClassification and "
        "...ForCausalLM. Save the model with its task's head."
    )


def columns_of(data: Path) -> dict[str, str]:
    """The text and label columns of a table: those of that name, else the first and second of two; else the defaults."""
    if not any(suffix in _TABLE_SUFFIXES for suffix in data.suffixes):
        return {}
    opened = gzip.open if data.suffix == ".gz" else open
    try:
        with opened(data, "rt", encoding="utf-8-sig", newline="") as stream:
            lines = iter(lambda: stream.readline(_LONGEST_LINE), "")
            header = next(csv.reader(lines, delimiter="\t" if ".tsv" in data.suffixes else ","), [])
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        raise InputError(f"data {data} cannot be read as UTF-8 text: {error}") from error
    if len(header) != len(("text", "label")) or {"text", "label"} <= set(header):
        return {}
    text, label = header
    return {"text": label, "label": text} if label == "text" or text == "label" else {"text": text, "label": label}
