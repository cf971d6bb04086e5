"""One file a technique: a frozen config class, one function, and a `TECHNIQUE` that names them.

A technique takes the model in one form (`module` or `onnx`) and returns it in the same form, unless it says otherwise. Which parity it must keep is
part of its description; `optimize/build.py` checks it after the step and rolls the step back where it fails.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError, one_of
from ..model import Form, Kind, Model
from ..recipe import StepConfig


@dataclass(frozen=True)
class StepResult:
    """The changed model and what was done to it (`nodes_replaced`, `sparsity`, `parameters_removed`, ...)."""

    model: Model
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Technique:
    """One way to make a model lighter.

    Attributes:
        name: what a config says in `use`.
        config: the step's config class.
        form: the form of model that it takes and returns.
        apply: (model, config, examples, folder) -> StepResult; new files go into `folder`. Raises BuildError where the
            technique does not fit the model and ConfigError where it lacks something that the user can give.
        exact: True where outputs may differ by rounding only, False where accuracy is traded.
        needs_calibration: whether it cannot work without calibration data; a function of the config where that decides.
        quantizes: True where it turns weights into integers: a recipe does that once.
        excludes: names of techniques that it cannot be combined with, before it or after it.
        gives: the form that it returns, where that is another.
        backends: the only backends that can run what it leaves; empty: all that run its form.
        after_export: the kinds of model on which it is tried unasked, when one is exported for one of those backends; where it fails
            it is left out, and the manifest says why.
        tells: whether `apply` takes a fifth argument, a function that hears of progress in work of minutes.
    """

    name: str
    config: type[StepConfig]
    form: Form
    apply: Callable[..., StepResult]
    exact: bool = False
    needs_calibration: bool | Callable[[Any], bool] = False
    quantizes: bool = False
    excludes: tuple[str, ...] = ()
    gives: Form | None = None
    backends: tuple[str, ...] = ()
    after_export: tuple[Kind, ...] = ()
    tells: bool = False


@functools.cache
def _techniques() -> dict[str, Technique]:
    modules = (importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    found: list[Technique] = [module.TECHNIQUE for module in modules]
    return {each.name: each for each in found}


def technique_names() -> tuple[str, ...]:
    """The names of every technique, sorted."""
    return tuple(sorted(_techniques()))


def technique(name: str) -> Technique:
    """Return the technique of that name.

    Raises:
        ConfigError: there is none; the text names the nearest.
    """
    if name not in _techniques():
        raise ConfigError(one_of("technique", name, technique_names()))
    return _techniques()[name]


def tried_after_export(backend: str, kind: Kind) -> tuple[StepConfig, ...]:
    """The steps, as they are by default, that are tried on every graph of such a model exported for a backend."""
    known = sorted(_techniques().items())
    return tuple(each.config() for _, each in known if kind in each.after_export and backend in each.backends)


def clash(first: StepConfig, second: StepConfig) -> str:
    """Why a step cannot come after another in a recipe; empty where it can."""
    one, other = technique(first.use), technique(second.use)
    if one.quantizes and other.quantizes:
        reason = "both quantize weights, and weights are quantized once"
    elif other.name in one.excludes or one.name in other.excludes:
        reason = "it cannot change what that one leaves"
    elif one.quantizes and other.form == "module":
        return f"step '{other.name}' cannot follow step '{one.name}', which leaves integers: put it before that one"
    else:
        return ""
    return f"step '{other.name}' cannot follow step '{one.name}': {reason}; leave one of them out"


def calibrates(step: StepConfig) -> bool:
    """Whether a step, as it is configured, learns from calibration data."""
    needs = technique(step.use).needs_calibration
    return needs(step) if callable(needs) else needs
