"""Generated texts side by side: each candidate's answers beside the baseline's, with the place where they part."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from ..bench.results import GeneratedText, Results
from . import words

CAPTION = (
    "The same prompts, answered alone. ▸ marks the first letter that differs; what follows it is underlined. A near tie is a place "
    "where the baseline's two best logits lay within 0.0001, so that rounding alone may choose another token."
)


@dataclass(frozen=True)
class TextView:
    """One prompt: what both answers begin with, and how each goes on; `place` says in words where they part."""

    text: GeneratedText
    common: str
    baseline_rest: str
    rest: str
    place: str


@dataclass(frozen=True)
class TextsView:
    """The texts of a candidate: a sentence that counts them, and the texts."""

    variant: str
    sentence: str
    texts: tuple[TextView, ...]


def views(results: Results) -> Iterator[TextsView]:
    """One view a candidate, in the order of the run."""
    for variant in dict.fromkeys(each.variant for each in results.texts):
        shown = [each for each in results.texts if each.variant == variant]
        yield TextsView(variant, _sentence(shown), tuple(_view(each) for each in shown))


def _view(text: GeneratedText) -> TextView:
    letters = zip(text.baseline_text, text.text, strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], letters))
    return TextView(text, text.text[:same], text.baseline_text[same:], text.text[same:], _place(text))


def _place(text: GeneratedText) -> str:
    """`token 17, margin 0.42`, `token 3, margin 2.1e-05: a near tie`, or `same tokens`."""
    if text.first_divergence is None:
        return "same tokens"
    margin = "" if text.margin is None else f", margin {words.significant(text.margin, 2)}"
    return f"token {text.first_divergence}{margin}{': a near tie' if text.near_tie else ''}"


def _sentence(shown: Sequence[GeneratedText]) -> str:
    apart = [each for each in shown if each.first_divergence is not None]
    ties = sum(each.near_tie for each in apart)
    near = f", {ties} of them at a near tie" if ties else ""
    return f"{len(apart)} of the {len(shown)} answers shown differ{near}"
