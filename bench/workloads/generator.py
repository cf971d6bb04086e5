"""Prepare a generator's workload: prompts to time, prompts to answer in full, windows of text to score."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...optimize.errors import ConfigError, InputError
from ...optimize.files import sha256_of_json
from ...optimize.loading import transformers_config, transformers_folder
from ...optimize.plain_data import checked, parse_json
from ...optimize.source import Source
from ..config import Columns, MeasureConfig, WorkloadConfig
from .base import Prepared, hash_of_arrays
from .data import kind_of, read_prompts, read_text
from .encode import encoded, load_tokenizer
from .prompts import Prompts, Tokens, left_padded
from .text_windows import (
    TIMED,
    TokenText,
    Windows,
    bytes_of_tokens,
    prompts_apart,
    prompts_of,
    windows_of,
    windows_of_references,
)

_GENERATION = "generation_config.json"
_Timed = dict[int, tuple[Tokens, Tokens]]


@dataclass(frozen=True)
class Texts:
    """Where a generator's texts come from: its tokenizer (a folder or hub id), and the files of evaluation and calibration data."""

    tokenizer: str
    data: Path
    calibration: Path | None = None


def prepare_generator(
    config: WorkloadConfig, measure: MeasureConfig, source: Source, texts: Texts, folder: Path
) -> Prepared:
    """Cut a text, or take a table's prompts and references, into prompts and windows of tokens.

    Calibration data becomes windows of the same size, one after another.

    Raises:
        ConfigError: the model is of another kind, or its positions do not suffice for a prompt and its answer.
        InputError: the data is damaged or too short, has empty prompts or references, or ones longer than the model's positions;
            or there is no tokenizer, or a damaged generation config.
    """
    if source.kind != "transformers":
        raise ConfigError("text-generation takes a transformers folder or hub id as model")
    made, data = _Maker.of(config, measure, source, texts.tokenizer), texts.data
    timed, prompts, windows, notices = made.of_text(data) if kind_of(data) == "txt" else made.of_table(data)
    for length, (ids, mask) in timed.items():
        place = folder / "evaluation" / str(length)
        place.mkdir(parents=True)
        np.save(place / "input_ids.npy", ids)
        np.save(place / "attention_mask.npy", mask)
    windows.write(folder / "scoring")
    prompts.write(folder, made.tokenizer)
    if texts.calibration is not None:
        made.write_calibration(texts.calibration, folder / "calibration")
    prepared = Prepared(
        folder=folder,
        name=config.name,
        task="text-generation",
        kind="decoder",
        source=source,
        class_names=(),
        lengths=measure.prompt_lengths,
        examples=len(windows),
        drawn=False,
        fixed_batch=None,
        data_sha256=sha256_of_json(
            [hash_of_arrays(folder / part) for part in ("evaluation", "scoring")] + [prompts.facts()]
        ),
        calibration_sha256=hash_of_arrays(folder / "calibration") if texts.calibration is not None else None,
        notices=tuple(notices),
    )
    prepared.write()
    return prepared


def text_of(data: Path, columns: Columns) -> str:
    """The text of a file, or of a table its prompts, each with its reference where there is one, a line each.

    Raises:
        InputError: the file is damaged, lacks a column, or has an empty prompt or reference.
    """
    if kind_of(data) == "txt":
        return read_text(data)
    asked, references = read_prompts(data, columns)
    return "\n".join(map("".join, zip(asked, references, strict=True)) if references else asked)


@dataclass(frozen=True)
class _Generation:
    """What a generation config says of where an answer ends."""

    eos_token_id: int | tuple[int, ...] | None = None


def _ends_of(folder: Path) -> int | tuple[int, ...] | None:
    """The tokens at which transformers' own loop ends an answer of the model in a folder; None where its generation config names none.

    Raises:
        InputError: the generation config is damaged.
    """
    path = folder / _GENERATION
    if not path.is_file():
        return None
    try:
        return checked(_Generation, parse_json(path.read_text(encoding="utf-8"))).eos_token_id
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a readable generation config ({error}); save the model again with save_pretrained, or remove the file"
        ) from error


def _end_tokens(*ends: int | list[int] | tuple[int, ...] | None) -> tuple[int, ...]:
    """All that are named, alone or as several, each once and in order."""
    named = (each if isinstance(each, list | tuple) else (each,) for each in ends)
    return tuple(sorted({int(end) for several in named for end in several if end is not None}))


@dataclass(frozen=True)
class _Maker:
    """What turns data into prompts and windows; `positions` are the model's, None where it has no limit."""

    config: WorkloadConfig
    measure: MeasureConfig
    tokenizer: Any
    positions: int | None
    end_tokens: tuple[int, ...]

    @staticmethod
    def of(config: WorkloadConfig, measure: MeasureConfig, source: Source, place: Path | str) -> "_Maker":
        tokenizer = load_tokenizer(place)
        if not tokenizer.is_fast:
            raise InputError(
                f"the tokenizer of {place} does not say which text a token stands for; save it as a fast tokenizer "
                "(with a tokenizer.json) and set workload.tokenizer to its folder"
            )
        model = transformers_config(source.reference).get_text_config()
        positions = getattr(model, "max_position_embeddings", None)
        for length in measure.prompt_lengths:
            if positions is not None and length + measure.most_new_tokens > positions:
                raise ConfigError(
                    f"prompt {length} + max_new_tokens {measure.most_new_tokens} is over the model's {positions} positions"
                )
        ends = (
            getattr(model, "eos_token_id", None),
            _ends_of(transformers_folder(source.reference)),
            tokenizer.eos_token_id,
        )
        return _Maker(config, measure, tokenizer, positions, _end_tokens(*ends))

    @property
    def pad(self) -> int:
        """What fills up a shorter prompt; it is masked."""
        return int(self.tokenizer.pad_token_id or 0)

    def of_text(self, data: Path) -> tuple[_Timed, Prompts, Windows, list[str]]:
        """Prompts from all over a text, to be timed at every length and answered at the first; windows of it to score."""
        if self.config.columns.reference is not None:
            raise ConfigError(
                f"columns.reference = '{self.config.columns.reference}': {data} is a text without columns; give a table "
                "(csv, tsv, jsonl, parquet) or remove the reference"
            )
        text = self._tokens(read_text(data))
        random = np.random.default_rng(self.config.seed)
        timed = {length: prompts_of(text.ids, length, random) for length in self.measure.prompt_lengths}
        asked = prompts_apart(text.ids, self.measure.prompt_lengths[0], self._most_prompts)
        prompts = self._prompts(list(asked), [self.tokenizer.decode(ids) for ids in asked])
        windows, sentence = self._windows(text)
        return {length: (ids, np.ones_like(ids)) for length, ids in timed.items()}, prompts, windows, [sentence]

    def of_table(self, data: Path) -> tuple[_Timed, Prompts, Windows, list[str]]:
        """A table's prompts, left-padded or cut to be timed, at their own length to be answered; references to score."""
        texts, references = read_prompts(data, self.config.columns)
        rows = self._drawn(len(texts), self.config.max_examples)
        texts, references = (tuple(each[row] for row in rows) for each in (texts, references or ("",) * len(texts)))
        ids = [self._tokens(text).ids for text in texts]
        self._need_positions(data, [len(each) + self.measure.most_new_tokens for each in ids], rows, "max_new_tokens")
        some = self._drawn(len(ids), TIMED)
        timed = {
            length: left_padded([ids[row] for row in some], length, self.pad) for length in self.measure.prompt_lengths
        }
        asked = self._drawn(len(ids), self.config.max_prompts)
        referred = self.config.columns.reference is not None
        prompts = self._prompts(
            [ids[row] for row in asked],
            [texts[row] for row in asked],
            tuple(references[row] for row in asked) if referred else (),
            tuple(asked) if referred else (),
        )
        if referred:
            windows, sentence = self._references(data, ids, references, rows)
        else:
            windows, sentence = self._windows(self._tokens("\n".join(texts)))
        told = (
            f"{len(asked)} of {len(ids)} prompts are answered in full for quality; workload.max_prompts says how many."
        )
        return timed, prompts, windows, [sentence, *([told] if len(asked) < len(ids) else [])]

    @property
    def _most_prompts(self) -> int:
        return min(self.config.max_prompts, self.config.max_examples or self.config.max_prompts)

    def _drawn(self, count: int, most: int | None) -> list[int]:
        """At most so many of `count` rows: a seeded draw, in order."""
        if most is None or count <= most:
            return list(range(count))
        chosen = np.random.default_rng(self.config.seed).choice(count, most, replace=False)
        return [int(row) for row in np.sort(chosen)]

    def _tokens(self, text: str, *, special: bool = True) -> TokenText:
        made = encoded(self.tokenizer, text, return_offsets_mapping=True, add_special_tokens=special)
        ends = np.array([end for _, end in made["offset_mapping"]], dtype=np.int64)
        return TokenText(np.array(made["input_ids"], dtype=np.int64), bytes_of_tokens(text, ends))

    def _prompts(
        self,
        ids: Sequence[Tokens],
        texts: Sequence[str],
        references: tuple[str, ...] = (),
        windows: tuple[int, ...] = (),
    ) -> Prompts:
        sampling = self.measure.sampling
        return Prompts(
            tuple(ids),
            tuple(texts),
            references,
            self.measure.most_new_tokens,
            self.end_tokens,
            None if sampling is None else sampling.model_dump(),
            windows,
        )

    def write_calibration(self, data: Path, folder: Path) -> None:
        """Write windows of a text, or of a table's prompts, each with its reference, one after another and without overlap."""
        ids = self._tokens(text_of(data, self.config.columns)).ids
        if len(ids) < self._size:
            raise InputError(
                f"calibration {data} has {len(ids)} tokens, fewer than one window of {self._size}; give more text, or a "
                "smaller workload.window"
            )
        windows = ids[: len(ids) // self._size * self._size].reshape(-1, self._size)
        (folder / "0").mkdir(parents=True)
        np.save(folder / "0" / "input_ids.npy", windows)
        np.save(folder / "0" / "attention_mask.npy", np.ones_like(windows))

    @property
    def _size(self) -> int:
        """Tokens of a window."""
        return min(self.config.window, self.positions or self.config.window)

    def _windows(self, text: TokenText) -> tuple[Windows, str]:
        size = self._size
        stride = min(self.config.stride or size, size)
        windows = windows_of(text, size, stride, self.config.max_examples)
        how = "each scored from its second token" if stride == size else f"of each the last {stride} scored"
        return windows, f"Perplexity is over {len(windows)} windows of {size} tokens, {how}."

    def _references(
        self, data: Path, ids: Sequence[Tokens], references: Sequence[str], rows: Sequence[int]
    ) -> tuple[Windows, str]:
        answers = [self._tokens(reference, special=False) for reference in references]
        sizes = [len(prompt) + len(answer.ids) for prompt, answer in zip(ids, answers, strict=True)]
        self._need_positions(data, sizes, rows, "its reference")
        windows = windows_of_references(ids, answers, self.pad)
        return windows, f"Perplexity is of {len(windows)} references, each given its prompt."

    def _need_positions(self, data: Path, sizes: Sequence[int], rows: Sequence[int], what: str) -> None:
        """Refuse a prompt that, with what follows it, is longer than the model's positions."""
        longest = int(np.argmax(sizes))
        if self.positions is not None and sizes[longest] > self.positions:
            raise InputError(
                f"data {data}: the prompt of row {rows[longest] + 1} and {what} take {sizes[longest]} tokens, over the model's "
                f"{self.positions} positions. Shorten it, or lower measure.max_new_tokens"
            )
