"""Rules in a file of their own, for judging a run again or comparing two artifacts."""

from pathlib import Path

from pydantic import ValidationError

from ..optimize.errors import ConfigError
from ..optimize.plain_data import parse_toml
from ..optimize.recipe import explain
from .config import GatesConfig


def read_rules(path: Path) -> GatesConfig:
    """Read a TOML file whose [gates] table (or whose top level) holds preset, required and rules.

    Raises:
        ConfigError: it is missing, not TOML, or holds no valid rules.
    """
    try:
        data = parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"rules {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"rules {path} is not valid TOML: {error}") from error
    try:
        gates = GatesConfig.model_validate(data.get("gates", data))
    except ValidationError as error:
        raise ConfigError(f"rules {path}: {explain(error, GatesConfig)}") from error
    if gates.preset == "none" and not gates.rules:
        raise ConfigError(f"rules {path} holds no rule: give a [[gates.rules]] table or a [gates] preset")
    return gates
