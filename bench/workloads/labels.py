"""Labels to class numbers, in the order of the model's scores."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...optimize.errors import InputError

_SHOWN = 8
_DIGITS = 18
"""Longer numbers are names: no model has so many classes."""


def class_names_of(labels: Sequence[str], model_names: Sequence[str] | None, classes: int | None) -> tuple[str, ...]:
    """The names of the classes in the order of the model's scores.

    The model's own names where it has any (LABEL_0, LABEL_1, ... are none); numbers below the number of classes as they are;
    else the labels sorted (numbers by value).

    Raises:
        InputError: the labels do not fit the model; both sides are listed.
    """
    present = sorted(set(labels), key=_by_value)
    if model_names and not _generic(model_names):
        unknown = [label for label in present if label not in model_names]
        if not unknown:
            return tuple(model_names)
        if not _numbers_below(present, len(model_names)):
            raise InputError(
                f"the data has labels that the model does not know: {_some(unknown)}; the model knows {_some(model_names)}"
            )
        return tuple(model_names)
    count = classes or (len(model_names) if model_names else None)
    if count is not None and count > 1:
        if _numbers_below(present, count):
            return tuple(str(number) for number in range(count))
        if len(present) > count:
            raise InputError(f"the data has {len(present)} labels ({_some(present)}), the model gives {count} scores")
    return tuple(present)


def encode(labels: Sequence[str], names: Sequence[str]) -> NDArray[np.int64]:
    """The class number of each label: its place among the names, or the number itself.

    Raises:
        InputError: a label is neither.
    """
    places = {name: number for number, name in enumerate(names)}
    unknown = sorted({label for label in labels if label not in places and not _numbers_below([label], len(names))})
    if unknown:
        raise InputError(
            f"the data has labels that the model does not know: {_some(unknown)}; the model knows {_some(names)}"
        )
    return np.array([places[label] if label in places else int(label) for label in labels], dtype=np.int64)


def _by_value(label: str) -> tuple[int, float, str]:
    try:
        return (0, float(label), label)
    except ValueError:
        return (1, 0.0, label)


def _generic(names: Sequence[str]) -> bool:
    return all(name == f"LABEL_{number}" for number, name in enumerate(names))


def _numbers_below(labels: Sequence[str], count: int) -> bool:
    return all(len(label) <= _DIGITS and label.isdecimal() and int(label) < count for label in labels)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > _SHOWN else shown
