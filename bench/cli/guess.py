"""A config for a model that was given without one, from what the files themselves say."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

from ...optimize.errors import ConfigError, InputError
from ..config import Config, parse_config

_TABLE_SUFFIXES = (".csv", ".tsv")


def config_of_model(model: str, data: Path, tokenizer: Path | None, labels: Path | None) -> Config:
    """The config of `weighbridge run MODEL --data FILE`: default variants, preset no-regression.

    Raises:
        ConfigError: what the model is for cannot be told from its files.
        InputError: the data is missing.
    """
    if not data.is_file():
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


def task_of(model: str, data: Path, tokenizer: Path | None) -> str:
    """Tell what a model is for: from its transformers config, from a tokenizer, or from the kind of data.

    Raises:
        ConfigError: none of them says it.
    """
    if (Path(model) / "config.json").is_file():
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
        data = json.loads(path.read_text(encoding="utf-8"))
        architectures = " ".join(data.get("architectures") or ()) if isinstance(data, dict) else ""
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable transformers config: {error}") from error
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
        with opened(data, "rt", encoding="utf-8", newline="") as stream:
            header = next(csv.reader(stream, delimiter="\t" if ".tsv" in data.suffixes else ","), [])
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"data {data} cannot be read as UTF-8 text: {error}") from error
    if len(header) != len(("text", "label")) or {"text", "label"} <= set(header):
        return {}
    text, label = header
    return {"text": label, "label": text} if label == "text" or text == "label" else {"text": text, "label": label}
