"""Weights to fine-tune: those of a transformers folder or hub id, of the one kind of model that a workload is about."""

from typing import Any

from ...optimize.errors import ConfigError, InputError, first_line
from ...optimize.loading import transformers_config, transformers_folder


def need_kind(reference: str, kind: str, workload: str) -> Any:
    """The config of a model that is to be fine-tuned, which must be of the workload's kind.

    Raises:
        ConfigError: it is of another kind.
        InputError: there is no such folder, and no such hub id can be had.
    """
    config = transformers_config(reference)
    if config.model_type != kind:
        raise ConfigError(
            f"{workload} fine-tunes a {kind} model, and {reference} is a {config.model_type} model; give a folder or hub id of "
            f"a {kind} model, or remove model to train from nothing"
        )
    return config


def pretrained(reference: str, architecture: Any, fresh: tuple[str, ...] = (), **settings: Any) -> Any:
    """The module with the trained weights, in FP32; no code that came with them is run.

    Args:
        reference: a transformers folder or hub id.
        architecture: the class of the module.
        fresh: beginnings of the names of the parts that need no trained weights, as fine-tuning gives them.
        settings: of the config, set anew.

    Raises:
        InputError: the weights are damaged, or some are missing outside the fresh parts.
    """
    try:
        module, report = architecture.from_pretrained(
            transformers_folder(reference),
            dtype="float32",
            trust_remote_code=False,
            ignore_mismatched_sizes=bool(fresh),
            output_loading_info=True,
            **settings,
        )
    except Exception as error:
        raise InputError(f"{reference} cannot be fine-tuned: {first_line(error)}") from error
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(fresh))
    if missing:
        raise InputError(
            f"{reference} cannot be fine-tuned: it holds no trained weights for {', '.join(missing[:3])}"
            f"{' ...' if missing[3:] else ''}"
        )
    return module
