"""A recipe: which backend, which precision and which steps make a variant. Plain data with a stable id."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import ConfigError, one_of

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int4")
_MOST_LETTERS = 200


class StepConfig(BaseModel):
    """Base of the config class of every technique: frozen, validated, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    use: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the step as it is written in a config, its name under `use`."""
        return {"use": self.use, **self.model_dump(mode="json")}


@dataclass(frozen=True)
class Recipe:
    """Backend, precision and an ordered tuple of steps; `steps` empty with int8 means the backend's default step."""

    backend: str
    precision: str
    steps: tuple[StepConfig, ...] = ()

    @property
    def name(self) -> str:
        """The default name of a variant built by this recipe."""
        return f"{self.backend}-{self.precision}"

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that are equal exactly when two recipes are."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that `from_dict` reads back to an equal recipe."""
        return {"backend": self.backend, "precision": self.precision, "steps": [s.to_dict() for s in self.steps]}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> "Recipe":
        """Read a recipe from plain data.

        Raises:
            ConfigError: an unknown backend, precision, technique or key, or a value outside its range.
        """
        from .backends import backend_names

        backend, precision = str(data.get("backend", "")), str(data.get("precision", "fp32"))
        if backend not in backend_names():
            raise ConfigError(one_of("backend", backend, backend_names()))
        if precision not in PRECISIONS:
            raise ConfigError(one_of("precision", precision, PRECISIONS))
        return Recipe(backend, precision, tuple(step_from_dict(step) for step in data.get("steps") or ()))


def step_from_dict(data: dict[str, Any]) -> StepConfig:
    """Read one step, `{use = "name", ...}`, into its technique's config class.

    Raises:
        ConfigError: no `use`, an unknown technique, an unknown key or a value outside its range.
    """
    from .techniques import technique, technique_names

    values = dict(data)
    name = values.pop("use", None)
    if not isinstance(name, str):
        raise ConfigError(f'a step needs use = "NAME"; given {_shown(data)}. Allowed: {", ".join(technique_names())}')
    config = technique(name).config
    try:
        return config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"step '{name}': {explain(error, config)}") from error


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Turn pydantic's findings into one sentence a finding; an unknown key names the nearest known one."""
    sentences = []
    for finding in error.errors():
        where = ".".join(str(part) for part in finding["loc"])
        if finding["type"] == "extra_forbidden":
            owner = _owner(model, finding["loc"][:-1])
            sentences.append(f"{where}: {one_of('key', str(finding['loc'][-1]), owner.model_fields)}")
        else:
            sentences.append(_sentence(finding["msg"], where, finding["input"]))
    return "; ".join(sentences)


def _sentence(message: str, where: str, given: Any) -> str:
    """Join pydantic's message with the place and, where it is short enough to read, the value given."""
    text = message.removeprefix("Value error, ")
    shown = f"; given {_shown(given)}" if isinstance(given, str | int | float | bool) else ""
    return f"{where}: {text}{shown}" if where else text


def _shown(given: Any) -> str:
    """A value as it would be written, cut where it is too long to read."""
    text = repr(given)
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}..."


def _owner(model: type[BaseModel], path: tuple[int | str, ...]) -> type[BaseModel]:
    """Follow field names down from `model` to the nested config class in which a finding lies."""
    for part in path:
        if not isinstance(part, str) or part not in model.model_fields:
            continue
        inner = model.model_fields[part].annotation
        for candidate in (inner, *getattr(inner, "__args__", ())):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                model = candidate
                break
    return model
