"""The prompts that a generator answers in full, as they lie in a prepared workload."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...optimize.files import write_json

FOLDER = "generation"
_PROMPTS = "prompts.json"
_TOKENIZER = "tokenizer.json"

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class Prompts:
    """What is asked, and how it is answered.

    Attributes:
        ids: the tokens of each prompt, at its own length.
        texts: the prompts as text.
        references: the text that each prompt's answer is held to; empty where there are none.
        windows: the scored window that holds each prompt's reference; empty where there are none.
        max_new_tokens: tokens of an answer.
        end_tokens: an answer ends with the first of these.
        sampling: temperature, top_k, top_p and seed of drawn answers; None: greedy.
        folder: where `write` put them beside their tokenizer.
    """

    ids: tuple[Tokens, ...]
    texts: tuple[str, ...]
    references: tuple[str, ...]
    max_new_tokens: int
    end_tokens: tuple[int, ...] = ()
    sampling: dict[str, Any] | None = None
    windows: tuple[int, ...] = ()
    folder: Path = field(default=Path(), compare=False)

    def facts(self) -> dict[str, Any]:
        """Everything but the place, as plain data."""
        data = {**asdict(self), "ids": [ids.tolist() for ids in self.ids]}
        del data["folder"]
        return data

    def write(self, prepared: Path, tokenizer: Any) -> None:
        """Write them into a prepared workload's folder, with the (fast) tokenizer that turns answers into text."""
        folder = prepared / FOLDER
        folder.mkdir(parents=True)
        tokenizer.backend_tokenizer.save(str(folder / _TOKENIZER))
        write_json(folder / _PROMPTS, self.facts())

    def write_part(self, prepared: Path, rows: NDArray[np.int64]) -> None:
        """Write those whose references are in these windows, as windows of a part that holds no others; all where none is."""
        places = {int(row): place for place, row in enumerate(rows)}
        kept = [number for number, window in enumerate(self.windows) if window in places]
        part = self
        if kept:
            part = replace(
                self,
                ids=tuple(self.ids[number] for number in kept),
                texts=tuple(self.texts[number] for number in kept),
                references=tuple(self.references[number] for number in kept),
                windows=tuple(places[self.windows[number]] for number in kept),
            )
        folder = prepared / FOLDER
        folder.mkdir(parents=True)
        (folder / _TOKENIZER).symlink_to(self.folder / _TOKENIZER)
        write_json(folder / _PROMPTS, part.facts())

    @staticmethod
    def read(prepared: Path) -> "Prompts":
        """Read what `write` wrote."""
        path = prepared / FOLDER / _PROMPTS
        data = json.loads(path.read_text(encoding="utf-8"))
        tuples = {name: tuple(data[name]) for name in ("texts", "references", "end_tokens", "windows")}
        ids = tuple(np.array(each, dtype=np.int64) for each in data["ids"])
        return Prompts(**{**data, **tuples, "ids": ids, "folder": path.parent})

    def until_end(self, tokens: Tokens) -> Tokens:
        """The tokens of one answer up to its first end token, that one included."""
        ends = np.flatnonzero(np.isin(tokens, self.end_tokens))
        return tokens[: ends[0] + 1] if len(ends) else tokens

    def text_of(self, tokens: Tokens) -> str:
        """Tokens as text, special ones left out."""
        text: str = self._tokenizer.decode(tokens.tolist(), skip_special_tokens=True)
        return text

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self.folder / _TOKENIZER))


def left_padded(prompts: Sequence[Tokens], length: int | None = None, pad: int = 0) -> tuple[Tokens, Tokens]:
    """Ids and mask (0: padding), shape (prompts, length); what is longer is cut, its last tokens kept.

    Without a length it is that of the longest.
    """
    size = length or max(len(ids) for ids in prompts)
    ids, mask = np.full((len(prompts), size), pad, np.int64), np.zeros((len(prompts), size), np.int64)
    for row, prompt in enumerate(prompts):
        kept = prompt[-size:]
        ids[row, size - len(kept) :] = kept
        mask[row, size - len(kept) :] = 1
    return ids, mask
