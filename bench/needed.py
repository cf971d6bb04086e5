"""How many examples the quality rules need, told before a run from what may be assumed, and again once the data is read.

Assumed is a candidate that is as good as its baseline, with 2 % of its answers changed for better or worse, and wanted that such
a one passes with a chance of 80 %. By the normal approximation (Connor, Biometrics 43 (1987) 207-211) that takes
(z_alpha + z_power)**2 * changed * mean square effect / room**2 examples, where the effect is how far one changed answer moves the
metric, times the number of examples, and the room lies between no change and the limit. A bound that answers even where nothing
changed takes at least ln(1 / alpha) * greatest effect / room.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from .metrics import METRICS, SHARES
from .rules import Rule

CHANGED_SHARE = 0.02
POWER = 0.8
_LEAST_ROOM = 1e-9
"""With less between no change and the limit no number of examples is told: it would have twenty digits."""
_BEYOND = 0.02
"""A value rule is to pass a model that is better than its limit by so much, or half way to 1 where that is nearer."""
_OVER_CLASSES = frozenset({"balanced_accuracy", "recall_macro", "precision_macro", "f1_macro", "roc_auc"})
_COUNTED_TEXTS = frozenset({"exact_match"})
"""Of generators' quality only these are known before as far as a changed answer moves them."""
_SHOWN = 5


@dataclass(frozen=True)
class Examples:
    """The examples that a rule judges together: a name (empty: all of them) and how many there are of each class."""

    name: str
    of_class: Mapping[str, int]

    @property
    def count(self) -> int:
        """All of them."""
        return sum(self.of_class.values())

    @property
    def rarest(self) -> tuple[str, int]:
        """The class with fewest, and how many."""
        return min(self.of_class.items(), key=lambda item: item[1])


def examples_of(labels: NDArray[np.int64], class_names: Sequence[str], name: str = "") -> Examples:
    """Count the classes that occur among labels, shape (examples,); one without a name is its number."""
    found, counts = np.unique(labels, return_counts=True)
    names = [class_names[label] if 0 <= label < len(class_names) else str(label) for label in found.tolist()]
    return Examples(name, dict(zip(names, counts.tolist(), strict=True)))


def examples_judged(
    labels: NDArray[np.int64], class_names: Sequence[str], slices: Mapping[str, Sequence[str]]
) -> dict[str | None, list[Examples]]:
    """The examples that a rule judges together: all of them (None), or by data column those of each of its values."""
    judged: dict[str | None, list[Examples]] = {None: [examples_of(labels, class_names)]}
    for column, values in slices.items():
        places = np.array(values)
        judged[column] = [
            examples_of(labels[places == value], class_names, f"{column}={value}") for value in sorted(set(values))
        ]
    return judged


def is_counted(rule: Rule) -> bool:
    """Whether the rule is one of quality whose need of examples is known: of a classifier's, or of exact answers."""
    found = METRICS[rule.metric]
    return found.family == "quality" and (found.of == "classifier" or rule.metric in _COUNTED_TEXTS)


def examples_needed(rule: Rule, alpha: float, examples: Examples | None = None) -> int | None:
    """How many examples a rule needs, of the rarest class for worst_class_recall; None where it cannot be said.

    It cannot for a rule that asks for a gain, nor for a value of a metric that is no share.

    Args:
        rule: a rule that `is_counted`.
        alpha: the one-sided error of a wrong pass.
        examples: the data's classes, where they are known; equal classes are assumed before.
    """
    room = _room(rule)
    if room is None or room < _LEAST_ROOM:
        return None
    if rule.metric == "worst_class_recall":
        alpha /= 2
    changed = rule.limit * (1 - rule.limit) if rule.compare == "value" else CHANGED_SHARE
    square, greatest = _effects(rule.metric, examples)
    z = float(special.ndtri(1 - alpha) + special.ndtri(POWER))
    by_spread = z * z * changed * square / (room * room)
    by_nothing_seen = -math.log(alpha) * greatest / room
    return math.ceil(max(by_spread, by_nothing_seen))


def _room(rule: Rule) -> float | None:
    """How far a candidate that is as good as the baseline lies inside the limit; None where that is not known."""
    if rule.compare == "value":
        inside = rule.metric in SHARES and not rule.maximum and 0 < rule.limit < 1
        return min(_BEYOND, (1 - rule.limit) / 2) if inside else None
    unchanged = 1.0 if rule.compare == "ratio" else 0.0
    return rule.limit - unchanged if rule.maximum else unchanged - rule.limit


def _effects(metric: str, examples: Examples | None) -> tuple[float, float]:
    """Mean square and greatest effect of a changed answer: 1, or by the share of its class where classes count alike."""
    if examples is None or metric not in _OVER_CLASSES:
        return 1.0, 1.0
    shares = np.array(list(examples.of_class.values())) / examples.count
    each = 1 / (len(shares) * shares)
    return float(shares @ np.square(each)), float(each.max())


def planned_sentence(rule: Rule, alpha: float, most: int | None) -> str:
    """What a rule needs, before any data is read; `most` examples are allowed. Empty where it cannot be said."""
    needed = examples_needed(rule, alpha)
    if needed is None:
        return ""
    short = f" max_examples = {most} is too few." if most is not None and most < needed else ""
    return f"It needs about {needed:,} examples{_where(rule)}{_assumed(rule)}.{short}"


def data_sentences(
    rules: Sequence[Rule], alpha: float, groups: Mapping[str | None, Sequence[Examples]]
) -> Iterator[str]:
    """What each rule needs against what the data has: by data column (None: all examples together), the groups judged apart."""
    for rule in rules:
        found = [each for each in groups.get(rule.slice, ()) if is_counted(rule) and each.count]
        needs = [(each, needed) for each in found if (needed := examples_needed(rule, alpha, each)) is not None]
        if needs:
            yield f"Rule {rule.words}: {_against(rule, needs)}"


def _against(rule: Rule, needs: Sequence[tuple[Examples, int]]) -> str:
    """The need of one rule and where the data falls short of it."""
    most = max(needed for _, needed in needs)
    short = [f"{name} has {has:,}" for name, has, needed in (_has(rule, *each) for each in needs) if has < needed]
    listed = ", ".join(short[:_SHOWN]) + (f" and {len(short) - _SHOWN} more are short" if len(short) > _SHOWN else "")
    answer = f"{listed}: it may stay undecided" if short else "there are enough"
    return f"about {most:,} examples{_where(rule)} are needed{_assumed(rule)}; {answer}."


def _has(rule: Rule, examples: Examples, needed: int) -> tuple[str, int, int]:
    """Whose examples count, how many there are, and how many are needed."""
    name, has = examples.name or "the data", examples.count
    if rule.metric == "worst_class_recall":
        label, has = examples.rarest
        name = f"class {label}{f' of {examples.name}' if examples.name else ''}"
    return name, has, needed


def _where(rule: Rule) -> str:
    of = " of every class" if rule.metric == "worst_class_recall" else ""
    return f"{of} in each {rule.slice}" if rule.slice is not None else of


def _assumed(rule: Rule) -> str:
    if rule.compare == "value":
        return f" for a model {100 * (_room(rule) or 0):.2g} points above the limit"
    by = "" if rule.metric in SHARES else ", each moving it by 1"
    return f" if {CHANGED_SHARE:.0%} of the answers change for better or worse{by}"
