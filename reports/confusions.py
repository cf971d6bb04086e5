"""Confusions: what each candidate takes for what, as a matrix of few classes or a list of many, beside the baseline's."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..bench.results import ClassRecall, Results

MATRIX_CLASSES = 12
"""Up to so many classes are shown as a matrix; of more, the pairs are listed."""
SHOWN, LISTED = 10, 60
"""So many pairs of a candidate are shown in full, and so many listed in all."""
_TINTS = (0.02, 0.05, 0.1, 0.2)
"""Shares of a label's examples from which a cell of the matrix is tinted more strongly."""
CAPTION = (
    "Counts of examples, of the same ones for every variant. A change is against the baseline; which changes are more than chance the "
    "table of recall by class says."
)

_Pair = tuple[str, str]


@dataclass(frozen=True)
class PairRow:
    """Examples of class `label` that are taken for `prediction`, by the baseline and by the candidate."""

    label: str
    prediction: str
    baseline: int
    candidate: int

    @property
    def change(self) -> int:
        """How many more the candidate has."""
        return self.candidate - self.baseline


@dataclass(frozen=True)
class MatrixCell:
    """A pair of classes in the matrix; `level` from 0 to 4 is its tint, by its share of the label's examples."""

    pair: PairRow
    level: int

    @property
    def right(self) -> bool:
        """Whether it counts right answers."""
        return self.pair.label == self.pair.prediction


@dataclass(frozen=True)
class ConfusionView:
    """A candidate: a sentence, and either the rows of a matrix (one a label, a cell a class) or pairs to show and to fold."""

    variant: str
    sentence: str
    matrix: tuple[tuple[MatrixCell, ...], ...] = ()
    shown: tuple[PairRow, ...] = ()
    folded: tuple[PairRow, ...] = ()


def views(results: Results) -> Iterator[ConfusionView]:
    """One view a candidate whose answers have labels, in the order of the run."""
    wrong: dict[str, dict[_Pair, int]] = defaultdict(dict)
    for each in results.confusions:
        wrong[each.variant][each.label, each.prediction] = each.n
    baseline = wrong[results.baseline.name]
    for variant in dict.fromkeys(each.variant for each in results.class_recalls):
        pairs = [
            PairRow(*pair, baseline.get(pair, 0), wrong[variant].get(pair, 0))
            for pair in dict.fromkeys([*wrong[variant], *baseline])
        ]
        recalls = [each for each in results.class_recalls if each.variant == variant]
        right, sentence = _right(recalls), _sentence(recalls, pairs)
        names = _classes(right, pairs)
        if len(names) <= MATRIX_CLASSES:
            yield ConfusionView(variant, sentence, matrix=_matrix(names, pairs, right))
        else:
            listed = sorted(pairs, key=lambda each: (-each.change, -each.candidate))[:LISTED]
            yield ConfusionView(variant, sentence, (), tuple(listed[:SHOWN]), tuple(listed[SHOWN:]))


def _right(recalls: Sequence[ClassRecall]) -> dict[str, tuple[int, PairRow]]:
    """The examples and the right answers of every class."""
    return {
        each.class_name: (
            each.n,
            PairRow(each.class_name, each.class_name, round(each.baseline * each.n), round(each.candidate * each.n)),
        )
        for each in recalls
    }


def _classes(right: Mapping[str, object], pairs: Sequence[PairRow]) -> list[str]:
    """The classes with examples, then those that are only predicted."""
    return list(dict.fromkeys([*right, *(name for each in pairs for name in (each.label, each.prediction))]))


def _matrix(
    names: Sequence[str], pairs: Sequence[PairRow], right: Mapping[str, tuple[int, PairRow]]
) -> tuple[tuple[MatrixCell, ...], ...]:
    """A row a class with examples, in it a cell for every class."""
    found = {(each.label, each.prediction): each for each in pairs}
    rows = []
    for label, (n, hits) in right.items():
        row = [hits if name == label else found.get((label, name), PairRow(label, name, 0, 0)) for name in names]
        rows.append(tuple(MatrixCell(each, bisect_right(_TINTS, each.candidate / n)) for each in row))
    return tuple(rows)


def _sentence(recalls: Sequence[ClassRecall], pairs: Sequence[PairRow]) -> str:
    """How many answers are wrong, and the pair that grew most: `12 wrong answers, 3 more than the baseline; grown most: ...`.

    They are counted by what is not right, for of many classes the rarer pairs are not kept.
    """
    total = sum(each.n - round(each.candidate * each.n) for each in recalls)
    change = total - sum(each.n - round(each.baseline * each.n) for each in recalls)
    if not total and not change:
        return "no wrong answer"
    against = f"{abs(change):,} {'more' if change > 0 else 'fewer'} than" if change else "as many as"
    return f"{total:,} wrong answer{'s' if total != 1 else ''}, {against} the baseline{_grown_most(pairs)}"


def _grown_most(pairs: Sequence[PairRow]) -> str:
    """The kept pair that grew most; empty where none did."""
    worst = max(pairs, key=lambda each: each.change, default=None)
    if worst is None or worst.change <= 0:
        return ""
    return f"; grown most: {worst.label} taken for {worst.prediction}, {worst.candidate} instead of {worst.baseline}"
