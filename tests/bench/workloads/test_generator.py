"""Prepared generators: prompts, references and windows from texts and tables, by a real tokenizer."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from weighbridge.bench.building import examples_of
from weighbridge.bench.config import MeasureConfig, WorkloadConfig
from weighbridge.bench.workloads.base import Prepared
from weighbridge.bench.workloads.prepare import prepare
from weighbridge.bench.workloads.prompts import Prompts
from weighbridge.optimize.errors import ConfigError, InputError, WeighbridgeError

PROMPTS = ["the cat", "on the mat sat the cat, the very same", "sat", "über the mat"]
REFERENCES = [" sat on the mat", " ends", " there", " went the cat"]


def prepared(folder: Path, workload: dict[str, Any], **measure: Any) -> Prepared:
    config = WorkloadConfig.model_validate({"name": "w", "task": "text-generation", **workload})
    asked = MeasureConfig(**{"prompt_lengths": (8,), "max_new_tokens": 4, **measure})
    return prepare(config, asked, folder / "prepared", lambda *_: None, base=folder)


@pytest.fixture
def table(tmp_path: Path) -> str:
    """A JSON-lines table of four prompts with references."""
    rows = [{"prompt": prompt, "answer": answer} for prompt, answer in zip(PROMPTS, REFERENCES, strict=True)]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return "t.jsonl"


def test_a_text_gives_prompts_and_windows(generator_folder: Path, tmp_path: Path) -> None:
    """Timed prompts have every length, those to answer the first one; windows are scored with the bytes of their text."""
    (tmp_path / "t.txt").write_text("the cat sat on the mät " * 60, encoding="utf-8")
    workload = {"model": str(generator_folder), "data": "t.txt", "window": 32, "max_prompts": 5}
    made = prepared(tmp_path, workload, prompt_lengths=(8, 16))
    assert Prepared.read(made.folder) == made
    assert [made.arrays("evaluation", length)["input_ids"].shape for length in (8, 16)] == [(64, 8), (64, 16)]
    prompts = Prompts.read(made.folder)
    assert [len(ids) for ids in prompts.ids] == [8] * 5
    assert (prompts.max_new_tokens, prompts.end_tokens, prompts.references, prompts.sampling) == (4, (0,), (), None)
    assert [prompts.text_of(ids) for ids in prompts.ids] == list(prompts.texts)
    scoring = made.arrays("scoring", 0)
    assert scoring["scored"].sum(axis=1).tolist() == [31] * made.examples
    sizes = np.load(made.folder / "scoring" / "bytes.npy")
    texts = [prompts.text_of(ids[1:]) for ids in scoring["input_ids"]]
    whole = [size for size, text in zip(sizes, texts, strict=True) if "\N{REPLACEMENT CHARACTER}" not in text]
    assert whole == [len(text.encode()) for text in texts if "\N{REPLACEMENT CHARACTER}" not in text]
    assert made.notices == (
        f"Perplexity is over {made.examples} windows of 32 tokens, each scored from its second token.",
    )


def test_answers_end_where_transformers_own_loop_would_end_them(generator_folder: Path, tmp_path: Path) -> None:
    """The ids of generation_config.json end an answer beside those of the model and its tokenizer; a damaged file is refused."""
    from transformers import GenerationConfig

    model, config = tmp_path / "model", tmp_path / "model" / "generation_config.json"
    shutil.copytree(generator_folder, model)
    (tmp_path / "t.txt").write_text("the cat sat on the mat " * 60, encoding="utf-8")
    workload = {"model": str(model), "data": str(tmp_path / "t.txt"), "window": 32}
    config.write_text('{"eos_token_id": [9, 7]}', encoding="utf-8")
    assert GenerationConfig.from_pretrained(model).eos_token_id == [9, 7]
    assert Prompts.read(prepared(tmp_path / "several", workload).folder).end_tokens == (0, 7, 9)
    config.write_text('{"eos_token_id": 7}', encoding="utf-8")
    assert Prompts.read(prepared(tmp_path / "one", workload).folder).end_tokens == (0, 7)
    for damaged in ('{"eos_token_id": "end"}', "[]", "{"):
        config.write_text(damaged, encoding="utf-8")
        with pytest.raises(InputError, match="generation_config.json is not a readable generation config"):
            prepared(tmp_path / "damaged", workload)
    config.unlink()
    assert Prompts.read(prepared(tmp_path / "none", workload).folder).end_tokens == (0,)


def test_later_pieces_of_a_character_stand_for_no_byte(generator_folder: Path, tmp_path: Path) -> None:
    """A window that scores one token alone has the three bytes of its character, or none where that token is not its first piece."""
    (tmp_path / "t.txt").write_text("中文" * 60, encoding="utf-8")
    made = prepared(tmp_path, {"model": str(generator_folder), "data": "t.txt", "window": 8, "stride": 1})
    assert made.arrays("scoring", 0)["scored"][1:].sum(axis=1).tolist() == [1] * (made.examples - 1)
    assert set(np.load(made.folder / "scoring" / "bytes.npy")[1:].tolist()) == {0, 3}


def test_a_table_gives_prompts_at_their_own_length_and_references(
    generator_folder: Path, table: str, tmp_path: Path
) -> None:
    """Prompts to time are padded or cut, those to answer are whole; the reference's tokens are scored after its prompt."""
    columns = {"text": "prompt", "reference": "answer"}
    sampling = {"temperature": 0.8, "top_k": 5, "top_p": 0.9, "seed": 1}
    made = prepared(tmp_path, {"model": str(generator_folder), "data": table, "columns": columns}, sampling=sampling)
    prompts = Prompts.read(made.folder)
    assert (list(prompts.texts), list(prompts.references)) == (PROMPTS, REFERENCES)
    assert prompts.sampling == sampling
    assert [prompts.text_of(ids) for ids in prompts.ids] == PROMPTS
    timed = made.arrays("evaluation", 8)
    assert timed["attention_mask"].sum(axis=1).tolist() == [min(8, len(ids)) for ids in prompts.ids]
    np.testing.assert_array_equal(timed["input_ids"][1], prompts.ids[1][-8:])
    scoring = made.arrays("scoring", 0)
    for row, reference in enumerate(REFERENCES):
        scored = scoring["input_ids"][row][scoring["scored"][row] == 1]
        assert prompts.text_of(scored) == reference
    assert np.load(made.folder / "scoring" / "bytes.npy").tolist() == [len(each.encode()) for each in REFERENCES]
    assert made.notices == ("Perplexity is of 4 references, each given its prompt.",)


def test_prompts_without_references_are_scored_as_one_text(generator_folder: Path, table: str, tmp_path: Path) -> None:
    """Windows go over the prompts one after the other; fewer prompts are answered where max_prompts says so, and it is told."""
    workload = {"model": str(generator_folder), "data": table, "columns": {"text": "prompt"}}
    made = prepared(tmp_path, {**workload, "window": 8, "stride": 4, "max_prompts": 3})
    prompts = Prompts.read(made.folder)
    assert len(prompts.texts) == 3
    assert [PROMPTS.index(text) for text in prompts.texts] == sorted(PROMPTS.index(text) for text in prompts.texts)
    assert made.notices[0].endswith("windows of 8 tokens, of each the last 4 scored.")
    assert made.notices[1].startswith("3 of 4 prompts are answered in full for quality; workload.max_prompts")


def test_calibration_text_becomes_windows_one_after_another(generator_folder: Path, table: str, tmp_path: Path) -> None:
    """A build gets windows of the same size as are scored: of a text, or of a table's prompts each with its reference."""
    workload = {"model": str(generator_folder), "data": table, "columns": {"text": "prompt", "reference": "answer"}}
    (tmp_path / "c.txt").write_text("the cat sat on the mat " * 20, encoding="utf-8")
    (tmp_path / "c.jsonl").write_text((tmp_path / table).read_text(encoding="utf-8"), encoding="utf-8")
    for number, (file, whole) in enumerate(
        (
            ("c.txt", "the cat sat on the mat " * 20),
            ("c.jsonl", "\n".join(map("".join, zip(PROMPTS, REFERENCES, strict=True)))),
        )
    ):
        made = prepared(
            tmp_path / str(number),
            {**workload, "data": str(tmp_path / table), "calibration": str(tmp_path / file), "window": 8},
        )
        calibration = examples_of(made).calibration
        ids = np.concatenate([batch["input_ids"] for batch in calibration])
        assert ids.shape[1] == 8
        assert whole.startswith(Prompts.read(made.folder).text_of(ids.reshape(-1)).rstrip("\N{REPLACEMENT CHARACTER}"))
        assert all((batch["attention_mask"] == 1).all() for batch in calibration)
        assert made.calibration_sha256


def test_calibration_text_must_be_other_text_and_long_enough(
    generator_folder: Path, table: str, tmp_path: Path
) -> None:
    """The evaluation data itself is refused, and a text shorter than one window."""
    workload = {"model": str(generator_folder), "data": table, "columns": {"text": "prompt"}, "window": 8}
    with pytest.raises(InputError, match="calibration and data are the same file"):
        prepared(tmp_path, {**workload, "calibration": table})
    (tmp_path / "c.txt").write_text("the", encoding="utf-8")
    with pytest.raises(InputError, match=r"fewer than one window of 8; give more text, or a smaller workload\.window"):
        prepared(tmp_path, {**workload, "calibration": "c.txt"})


def test_other_answers_are_other_data(generator_folder: Path, table: str, tmp_path: Path) -> None:
    """The hash of the data tells runs apart that answer other prompts, or the same at another length or temperature."""
    workload = {
        "model": str(generator_folder),
        "data": str(tmp_path / table),
        "columns": {"text": "prompt"},
        "window": 8,
    }
    hashes = []
    for name, changes, measure in (
        ("a", {}, {}),
        ("b", {}, {}),
        ("c", {"max_prompts": 3}, {}),
        ("d", {}, {"max_new_tokens": 5}),
        ("e", {}, {"sampling": {"temperature": 0.5}}),
    ):
        (tmp_path / name).mkdir()
        hashes.append(prepared(tmp_path / name, {**workload, **changes}, **measure).data_sha256)
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4


@pytest.mark.parametrize(
    ("rows", "workload", "measure", "error", "sentence"),
    [
        (["the cat", " "], {}, {}, InputError, r"column 'prompt' is empty in 1 of 2 rows \(the first is row 2\)"),
        (["the cat", None], {}, {}, InputError, r"the first is row 2"),
        (["the cat"], {"columns": {"text": "promt"}}, {}, InputError, "did you mean 'prompt'"),
        (
            ["the cat"],
            {"columns": {"text": "prompt", "reference": "answer"}},
            {},
            InputError,
            "unknown column 'answer'",
        ),
        (
            ["the cat " * 40],
            {},
            {},
            InputError,
            r"the prompt of row 1 and max_new_tokens take \d+ tokens, over the model's 64",
        ),
        (["the cat"], {}, {"max_new_tokens": 60}, ConfigError, "prompt 8 [+] max_new_tokens 60 is over the model's 64"),
        (["the cat"], {"tokenizer": "bare"}, {}, InputError, "no tokenizer can be loaded from .*bare"),
        (
            ["the cat"],
            {"data": "t.txt", "columns": {"reference": "answer"}},
            {},
            ConfigError,
            "t.txt is a text without columns",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused(
    rows: list[str | None],
    workload: dict[str, Any],
    measure: dict[str, Any],
    error: type[WeighbridgeError],
    sentence: str,
    generator_folder: Path,
    tmp_path: Path,
) -> None:
    """Empty or too long prompts, missing columns and tokenizers are sentences that say what to do."""
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps({"prompt": row}) for row in rows), encoding="utf-8")
    (tmp_path / "t.txt").write_text("the cat " * 90, encoding="utf-8")
    (tmp_path / "bare").mkdir()
    told = {"model": str(generator_folder), "data": "t.jsonl", "columns": {"text": "prompt"}, "window": 4, **workload}
    with pytest.raises(error, match=sentence):
        prepared(tmp_path, told, **measure)


def test_a_long_reference_is_refused(generator_folder: Path, tmp_path: Path) -> None:
    """Prompt and reference together must fit the model's positions."""
    row = {"prompt": "the cat", "answer": "on the mat " * 30}
    (tmp_path / "t.jsonl").write_text(json.dumps(row), encoding="utf-8")
    columns = {"text": "prompt", "reference": "answer"}
    with pytest.raises(InputError, match=r"the prompt of row 1 and its reference take \d+ tokens"):
        prepared(tmp_path, {"model": str(generator_folder), "data": "t.jsonl", "columns": columns})


def test_a_tokenizer_that_does_not_say_its_texts_is_refused(
    generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bits a byte and texts need a fast tokenizer; another is refused with the cure."""
    from types import SimpleNamespace

    (tmp_path / "t.txt").write_text("the cat " * 90, encoding="utf-8")
    slow = SimpleNamespace(is_fast=False)
    monkeypatch.setattr("weighbridge.bench.workloads.generator.load_tokenizer", lambda _: slow)
    with pytest.raises(InputError, match=r"does not say which text a token stands for; save it as a fast tokenizer"):
        prepared(tmp_path, {"model": str(generator_folder), "data": "t.txt"})


@pytest.mark.parametrize(
    ("workload", "sentence"),
    [
        ({"window": 8, "stride": 9}, "stride must be at most window"),
        ({"task": "text-classification", "columns": {"reference": "x"}}, "columns.reference is for text-generation"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(workload: dict[str, Any], sentence: str) -> None:
    """A stride beyond the window leaves text out, and only generators have references."""
    with pytest.raises(ValueError, match=sentence):
        WorkloadConfig.model_validate({"task": "text-generation", "model": "m", **workload})
