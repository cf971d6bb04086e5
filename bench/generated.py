"""What every generator answered to the same prompts: written once (generations.parquet), the ground of all that is said of texts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .generation_quality import Tokens, exact, first_divergence, of_references, of_tokens
from .predictions import read_each, texts_of, write_tables
from .quality import Estimate
from .results import GeneratedText

FILE = "generations.parquet"
SHOWN = 20
"""So many texts of a variant are in results.json; all are in the file."""
NEAR_TIE = 1e-4
"""Two best logits that lie this near to each other may change places by rounding alone."""
_MOST_LETTERS = 2000


@dataclass(frozen=True)
class Generations:
    """A generator's answers, one entry a prompt.

    Attributes:
        prompts: the prompts as text.
        references: the texts that the answers are held to; empty where there are none.
        tokens: the tokens of each answer, its end token included where it has one.
        margins: how far the best logit was above the second at each token; of drawn answers it says nothing of ties.
        texts: the answers as text, special tokens left out.
        most: max_new_tokens, the most that an answer may have.
        greedy: whether the likeliest token was taken each time; otherwise it was drawn.
    """

    prompts: tuple[str, ...]
    references: tuple[str, ...]
    tokens: tuple[Tokens, ...]
    margins: tuple[NDArray[np.float32], ...]
    texts: tuple[str, ...]
    most: int
    greedy: bool = True

    @cached_property
    def quality(self) -> dict[str, Estimate]:
        """The metrics of the answers alone, and of the answers against their references, by name."""
        referred = of_references(self.texts, self.references) if self.references else {}
        return {**referred, **of_tokens(self.tokens)}

    @cached_property
    def exact(self) -> NDArray[np.bool_] | None:
        """Whether each answer is its reference, shape (prompts,); None without references."""
        return exact(self.texts, self.references) if self.references else None


def write_generations(run_folder: Path, answers: Mapping[str, Generations]) -> None:
    """Write the answers of every variant, one row a prompt and variant."""
    write_tables(
        run_folder / FILE,
        [
            {
                "variant": [name] * len(each.tokens),
                "example": list(range(len(each.tokens))),
                "prompt": list(each.prompts),
                "reference": list(each.references or [None] * len(each.tokens)),
                "text": list(each.texts),
                "tokens": list(each.tokens),
                "margins": list(each.margins),
                "max_new_tokens": [each.most] * len(each.tokens),
                "greedy": [each.greedy] * len(each.tokens),
            }
            for name, each in answers.items()
        ],
    )


def read_generations(run_folder: Path) -> dict[str, Generations]:
    """Read the generators' answers by variant; empty where the run has none.

    Raises:
        InputError: the file is damaged.
    """
    return read_each(run_folder / FILE, "tokens", _generations)


def _generations(table: Any) -> Generations:
    references = table["reference"]
    answers = Generations(
        prompts=texts_of(table["prompt"]),
        references=() if references.null_count else texts_of(references),
        tokens=tuple(np.array(each, dtype=np.int64) for each in table["tokens"].to_pylist()),
        margins=tuple(np.array(each, dtype=np.float32) for each in table["margins"].to_pylist()),
        texts=texts_of(table["text"]),
        most=int(table["max_new_tokens"][0].as_py()),
        greedy=bool(table["greedy"][0].as_py()),
    )
    if answers.most < 1 or not all(tokens.ndim == 1 and len(tokens) for tokens in answers.tokens):
        raise ValueError("an answer has no tokens")
    if [each.shape for each in answers.margins] != [each.shape for each in answers.tokens]:
        raise ValueError("an answer has not a margin for every token")
    return answers


def side_by_side(answers: Mapping[str, Generations], baseline: str) -> Iterator[GeneratedText]:
    """Up to 20 answers of every candidate beside the baseline's: first those that differ, all in the order of the prompts."""
    reference = answers.get(baseline)
    if reference is None:
        return
    for variant, candidate in answers.items():
        if variant == baseline:
            continue
        apart = [first_divergence(*pair) for pair in zip(reference.tokens, candidate.tokens, strict=True)]
        order = sorted(range(len(apart)), key=lambda example: (apart[example] is None, example))
        for example in sorted(order[:SHOWN]):
            yield _beside(variant, example, reference, candidate, apart[example])


def _beside(
    variant: str, example: int, baseline: Generations, candidate: Generations, place: int | None
) -> GeneratedText:
    """One answer beside the baseline's; the margin is the baseline's at the first token that differs.

    The candidate's own says less: logits of low precision tie often.
    """
    margins = baseline.margins[example]
    known = place is not None and candidate.greedy and place < len(margins)
    margin = float(margins[place]) if known else None
    return GeneratedText(
        variant,
        example,
        baseline.prompts[example][-_MOST_LETTERS:],
        baseline.references[example][:_MOST_LETTERS] if baseline.references else "",
        baseline.texts[example][:_MOST_LETTERS],
        candidate.texts[example][:_MOST_LETTERS],
        place,
        margin,
        near_tie=margin is not None and margin <= NEAR_TIE,
    )
