"""A generator's answers to prompts: each alone at its own length; and whether a padded batch answers as single requests do."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..optimize.backends.base import Decoder
from ..optimize.errors import BuildError
from .choosing import Choose, Drawn, greedy, uniforms
from .generation import generate
from .workloads.prompts import Prompts, left_padded

_BATCH = 4
_NEW_TOKENS = 16

Tokens = NDArray[np.int64]


@dataclass
class _Watched:
    """Chooses as it is told, and keeps how far the best logit was above the second: shape (batch,) a place."""

    choose: Choose
    margins: list[NDArray[np.float32]] = field(default_factory=list)

    def __call__(self, logits: NDArray[np.float32], place: int) -> Tokens:
        second, best = np.partition(logits, -2, axis=-1)[:, -2:].T
        self.margins.append(best - second)
        return self.choose(logits, place)


@dataclass(frozen=True)
class NearTie:
    """A place where a padded batch and a single request went apart, the two best logits lying `margin` from each other."""

    prompt: int
    place: int
    margin: float


def answer(decoder: Decoder, prompts: Prompts) -> tuple[Tokens, NDArray[np.float32]]:
    """Answer each prompt alone; tokens and margins between the two best logits, shape (prompts, max_new_tokens) each."""
    drawn = prompts.sampling
    numbers = uniforms(drawn["seed"], len(prompts.ids), prompts.max_new_tokens) if drawn else None
    answers = []
    for number, ids in enumerate(prompts.ids):
        choose: Choose = greedy
        if drawn and numbers is not None:
            choose = Drawn(numbers[number : number + 1], drawn["temperature"], drawn["top_k"], drawn["top_p"])
        answers.append(_generated(decoder, [ids], prompts.max_new_tokens, choose))
    tokens, margins = zip(*answers, strict=True)
    return np.concatenate(tokens), np.concatenate(margins)


def padding_ties(decoder: Decoder, prompts: Prompts, tie: float) -> list[dict[str, Any]]:
    """Answer prompts of unlike length greedily, in one left-padded batch and alone; where they go apart at a near tie.

    The batch is made of up to four prompts, cut to a quarter, a half, three quarters and the whole of their length. `tie` is how
    near the two best logits must lie for padding to be innocent.

    Raises:
        BuildError: an answer differs where they lie further apart; the text says where.
    """
    chosen = prompts.ids[:_BATCH]
    mixed = [ids[-max(1, len(ids) * (number + 1) // len(chosen)) :] for number, ids in enumerate(chosen)]
    count = min(_NEW_TOKENS, prompts.max_new_tokens)
    together, _ = _generated(decoder, mixed, count, greedy)
    found = []
    for number, ids in enumerate(mixed):
        (alone,), (margins,) = _generated(decoder, [ids], count, greedy)
        apart = np.flatnonzero(alone != together[number])
        if not len(apart):
            continue
        place = int(apart[0])
        if not margins[place] <= tie:
            raise BuildError(
                f"padding changes its answers: in a left-padded batch of {len(mixed)} prompts the one of {len(ids)} tokens has "
                f"another token {place} than alone, where the two best logits lie {margins[place]:.2g} apart (allowed: {tie:.2g}). "
                "Look for a mask or positions that do not reach the model"
            )
        found.append(asdict(NearTie(number, place, float(margins[place]))))
    return found


def _generated(
    decoder: Decoder, prompts: Sequence[Tokens], count: int, choose: Choose
) -> tuple[Tokens, NDArray[np.float32]]:
    """Tokens and margins of one batch, shape (batch, count) each."""
    ids, mask = left_padded(prompts)
    watched = _Watched(choose)
    made = generate(decoder, ids, mask, count, watched)
    return made.tokens, np.stack(watched.margins, axis=1)
