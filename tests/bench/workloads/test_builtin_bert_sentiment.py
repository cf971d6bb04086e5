"""The BERT with one sigmoid unit: trained from nothing, and fine-tuned from folders."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from weighbridge.bench.judge import Judgement
from weighbridge.bench.reporter import ignore
from weighbridge.bench.workloads import builtin_bert_sentiment
from weighbridge.bench.workloads.base import Prepared
from weighbridge.bench.workloads.builtin import Made, Request
from weighbridge.bench.workloads.builtin_bert_sentiment import Size, make_with
from weighbridge.bench.workloads.builtin_docstrings_bert import bert_config, wordpieces
from weighbridge.bench.workloads.data import Rows
from weighbridge.optimize.errors import ConfigError, InputError
from weighbridge.optimize.loading import load
from weighbridge.optimize.quiet import quiet

TINY = Size(vocabulary=120, hidden=16, layers=1, heads=2, length=16, epochs=8, learning_rate=1e-2)


@pytest.fixture
def request_of(subject_rows: Callable[..., Rows], trained_here: Path) -> Callable[[str], Request]:
    """A request with own texts of these classes, in a cache of the test's own."""
    del trained_here
    return lambda names: Request(0, training=subject_rows(names, 480, 1), evaluation=subject_rows(names, 96, 2))


@pytest.fixture
def encoder(tmp_path: Path, subject_rows: Callable[..., Rows]) -> Path:
    """The folder of a tiny BERT encoder with its tokenizer, and no head."""
    from transformers import BertModel

    tokenizer = wordpieces(subject_rows("fruit metal tree", 60, 0).texts or (), 120)
    torch.manual_seed(3)
    with quiet():
        BertModel(bert_config(len(tokenizer), 16, 1, 2)).save_pretrained(tmp_path / "encoder")
        tokenizer.save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def test_it_is_trained_from_nothing_and_its_int8_variant_judged(
    request_of: Callable[[str], Request],
    prepared_of: Callable[[Made, int], Prepared],
    judged: Callable[[Prepared, str], tuple[float, Judgement]],
) -> None:
    """Two classes are learnt by a pooled output, dropout of 0.3 and one unit; torch's INT8 variant is found no worse."""
    made = make_with(TINY, request_of("fruit metal"), ignore)
    assert made.class_names == ("fruit", "metal")
    module = load(made.source).module
    assert (module.dropout.p, module.classifier.out_features, module.bert.pooler is None) == (0.3, 1, False)
    accuracy, judgement = judged(prepared_of(made, 16), "torch-int8")
    assert accuracy > 0.9
    assert [gate.verdict for gate in judgement.gates] == ["pass"]


def test_a_trained_encoder_is_fine_tuned(
    encoder: Path, request_of: Callable[[str], Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a learning rate near 0 the encoder's weights come out as they went in; its tokenizer is kept, its head is new."""
    still = replace(builtin_bert_sentiment.FINE_TUNING, learning_rate=1e-12, epochs=1)
    monkeypatch.setattr(builtin_bert_sentiment, "FINE_TUNING", still)
    given = replace(request_of("fruit metal"), model=str(encoder))
    made = make_with(TINY, given, ignore)
    before, after = load_encoder(encoder), load(made.source).module.bert.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-7) for name in before)
    kept, own = (
        json.loads((Path(folder) / "tokenizer.json").read_text()) for folder in (made.source.reference, encoder)
    )
    assert kept["model"]["vocab"] == own["model"]["vocab"]
    assert make_with(TINY, replace(given, model=None), ignore).source.reference != made.source.reference


def load_encoder(folder: Path) -> dict[str, torch.Tensor]:
    from transformers import BertModel

    with quiet():
        state: dict[str, torch.Tensor] = BertModel.from_pretrained(folder).state_dict()
    return state


def test_fine_tuning_is_adam_at_2e_5_for_three_epochs() -> None:
    """The published recipe of BERT's fine-tuning, with no weight decay."""
    how = builtin_bert_sentiment.FINE_TUNING
    assert (how.optimizer, how.learning_rate, how.epochs, how.weight_decay) == ("adam", 2e-5, 3, 0.0)


def test_what_is_no_bert_is_refused(generator_folder: Path, request_of: Callable[[str], Request]) -> None:
    """A GPT-2 is refused by its kind."""
    with pytest.raises(ConfigError, match="bert-sentiment fine-tunes a bert model, and .* is a gpt2 model"):
        make_with(TINY, replace(request_of("fruit metal"), model=str(generator_folder)), ignore)


def test_an_encoder_without_its_weights_is_refused(encoder: Path, request_of: Callable[[str], Request]) -> None:
    """Weights of which a layer is missing, and damaged ones, are refused with what is missing or wrong."""
    from safetensors.torch import load_file, save_file

    weights = encoder / "model.safetensors"
    tensors = load_file(weights)
    given = replace(request_of("fruit metal"), model=str(encoder))
    save_file({name: tensor for name, tensor in tensors.items() if "query" not in name}, weights, {"format": "pt"})
    with pytest.raises(
        InputError, match=r"holds no trained weights for bert\.encoder\.layer\.0\.attention\.self\.query"
    ):
        make_with(TINY, given, ignore)
    weights.write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be fine-tuned"):
        make_with(TINY, given, ignore)


def test_one_unit_refuses_three_classes(request_of: Callable[[str], Request]) -> None:
    """Three labels are refused before anything is trained."""
    with pytest.raises(InputError, match=r"bert-sentiment tells two classes apart.* 3 labels"):
        make_with(TINY, request_of("fruit metal tree"), ignore)
