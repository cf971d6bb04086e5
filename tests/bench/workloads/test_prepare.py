"""Prepared workloads: the arrays that are weighed, from real tokenizers, models and tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from weighbridge.bench.building import examples_of
from weighbridge.bench.config import MeasureConfig, WorkloadConfig
from weighbridge.bench.reporter import ignore
from weighbridge.bench.workloads import builtin, builtin_names
from weighbridge.bench.workloads.base import Prepared, batches, rows
from weighbridge.bench.workloads.prepare import prepare
from weighbridge.optimize.errors import ConfigError, InputError

TEXTS = [f"where is my card number {number}" for number in range(12)] + [
    f"please refund payment {n}" for n in range(12)
]
LABELS = ["card"] * 12 + ["refund"] * 12


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT classifier with its tokenizer and the classes card and refund."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    learnt = BertWordPieceTokenizer(lowercase=True)
    learnt.train_from_iterator(TEXTS, vocab_size=120, show_progress=False)
    tokenizer = BertTokenizerFast(tokenizer_object=learnt._tokenizer)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        id2label={0: "refund", 1: "card"},
        label2id={"refund": 0, "card": 1},
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def table(path: Path, texts: list[str], labels: list[str]) -> str:
    lines = [f"{text},{label}" for text, label in zip(texts, labels, strict=True)]
    path.write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    return str(path)


def prepared(folder: Path, workload: dict[str, Any], artifacts: Sequence[str] = (), **measure: Any) -> Prepared:
    config = WorkloadConfig.model_validate({"name": "w", "task": "text-classification", **workload})
    return prepare(config, MeasureConfig(**measure), folder / "prepared", ignore, base=folder, artifacts=artifacts)


def test_a_transformers_folder_and_a_csv_become_token_arrays(bert: Path, tmp_path: Path) -> None:
    """Every length is padded and cut with its mask; labels follow the model's id2label; prepared.json reads back equal."""
    data = table(tmp_path / "t.csv", TEXTS, LABELS)
    made = prepared(tmp_path, {"model": str(bert), "data": data}, sequence_lengths=(8, 16))
    assert Prepared.read(made.folder) == made
    assert (made.class_names, made.examples, made.lengths) == (("refund", "card"), 24, (8, 16))
    for length in (8, 16):
        arrays = made.arrays("evaluation", length)
        assert set(arrays) == {"input_ids", "attention_mask", "token_type_ids"}
        assert arrays["input_ids"].shape == (24, length)
        assert ((arrays["input_ids"] == 0) == (arrays["attention_mask"] == 0)).all()
    labels = made.labels()
    assert labels is not None
    np.testing.assert_array_equal(labels, [1] * 12 + [0] * 12)
    assert made.excerpts() == TEXTS


def test_max_examples_is_a_seeded_draw_in_order(bert: Path, tmp_path: Path) -> None:
    """Ten of 24 examples, the same ones twice, in the order of the file."""
    data = table(tmp_path / "t.csv", TEXTS, LABELS)
    excerpts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        excerpts.append(prepared(tmp_path / name, {"model": str(bert), "data": data, "max_examples": 10}).excerpts())
    assert excerpts[0] == excerpts[1]
    assert [TEXTS.index(text) for text in excerpts[0]] == sorted(TEXTS.index(text) for text in excerpts[0])
    assert len(excerpts[0]) == 10


def test_columns_for_slices_follow_the_draw_of_examples(bert: Path, tmp_path: Path) -> None:
    """The kept column has the value of each drawn example, in order; without one there is none."""
    rows = [f"{text},{label},lang{place % 3}" for place, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True))]
    data = tmp_path / "t.csv"
    data.write_text("\n".join(["text,label,language", *rows]), encoding="utf-8")
    workload = {"model": str(bert), "data": str(data), "max_examples": 10}
    made = prepared(tmp_path / "x", {**workload, "columns": {"slices": ["language"]}})
    assert made.slices() == {"language": tuple(f"lang{TEXTS.index(text) % 3}" for text in made.excerpts())}
    assert prepared(tmp_path / "y", workload).slices() == {}


@pytest.mark.parametrize(
    ("workload", "error", "sentence"),
    [
        ({"model": "m"}, ConfigError, "slice = 'language': a slice is a column of workload.data, and none is given"),
        ({"task": None, "builtin": "digits-cnn"}, ConfigError, "a slice is a column of workload.data"),
        (
            {"task": "image-classification", "model": "m", "data": "x-idx3-ubyte"},
            InputError,
            "x-idx3-ubyte has no columns",
        ),
        ({"task": "tabular-classification", "model": "m", "data": "x.npz"}, InputError, "has no columns to slice by"),
        ({"task": "text-generation", "model": "m", "data": "x.csv"}, InputError, "only a classifier's table has"),
        ({"model": "m.fake.json"}, InputError, "the fake workload: unknown column 'language'"),
    ],
)
def test_what_has_no_columns_has_no_slices(
    workload: dict[str, str], error: type[Exception], sentence: str, tmp_path: Path
) -> None:
    """Without a table, slices are refused in a sentence before anything is read or trained."""
    (tmp_path / "m.fake.json").write_text("{}", encoding="utf-8")
    with pytest.raises(error, match=sentence):
        prepared(tmp_path, {**workload, "columns": {"slices": ["language"]}})


def test_calibration_data_must_be_other_rows(bert: Path, tmp_path: Path) -> None:
    """The same file and mostly the same rows are refused; a few shared rows are told; other rows are fine."""
    data = table(tmp_path / "t.csv", TEXTS, LABELS)
    with pytest.raises(InputError, match="calibration and data are the same file"):
        prepared(tmp_path, {"model": str(bert), "data": data, "calibration": data})
    copy = table(tmp_path / "copy.csv", TEXTS[::-1], LABELS[::-1])
    with pytest.raises(InputError, match="the calibration data is the evaluation data: 24 of its 24"):
        prepared(tmp_path / "x", {"model": str(bert), "data": data, "calibration": copy})
    other = [f"top up {number} failed" for number in range(9)]
    some = table(tmp_path / "some.csv", [*other, TEXTS[0]], ["card"] * 10)
    made = prepared(tmp_path / "y", {"model": str(bert), "data": data, "calibration": some})
    assert made.notices == ("1 of 10 calibration rows are evaluated too.",)
    assert made.calibration_sha256 is not None


def test_an_unknown_label_lists_both_sides(bert: Path, tmp_path: Path) -> None:
    """A label that the model does not know is refused with the model's own."""
    data = table(tmp_path / "t.csv", TEXTS[:2], ["card", "loan"])
    with pytest.raises(InputError, match="does not know: loan; the model knows refund, card"):
        prepared(tmp_path, {"model": str(bert), "data": data})


@pytest.mark.parametrize(
    ("workload", "error", "sentence"),
    [
        ({"model": "absent", "data": "t.csv"}, InputError, "absent"),
        ({"model": "t.csv", "data": "t.csv"}, InputError, "is a file of another kind"),
        ({"model": "BERT"}, ConfigError, "workload.data is missing"),
        ({"model": "nowhere:model", "data": "t.csv"}, InputError, "nowhere"),
        ({"builtin": "digits-cnn", "data": "t.csv"}, InputError, "t.csv holds no images. Allowed: idx"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    workload: dict[str, str], error: type[Exception], sentence: str, bert: Path, tmp_path: Path
) -> None:
    """Missing models, models of another kind and missing data are sentences."""
    table(tmp_path / "t.csv", TEXTS, LABELS)
    told = {key: str(bert) if value == "BERT" else value for key, value in workload.items()}
    with pytest.raises(error, match=sentence):
        prepared(tmp_path, {"task": None, **told} if "builtin" in told else told)


def test_a_text_model_without_a_tokenizer_asks_for_one(tmp_path: Path) -> None:
    """A factory for text needs workload.tokenizer."""
    (tmp_path / "texty.py").write_text(
        "import torch\n\n\nclass M(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.e = torch.nn.Embedding(9, 2)\n    def forward(self, input_ids):\n        return self.e(input_ids).sum(1)\n",
        encoding="utf-8",
    )
    data = table(tmp_path / "t.csv", TEXTS, LABELS)
    with pytest.raises(ConfigError, match="needs workload.tokenizer"):
        prepared(tmp_path, {"model": "texty:M", "data": data})


def test_rows_go_round_and_batches_end_short() -> None:
    """Rows from near the end go on at the start; batches give every row once, the last one smaller."""
    arrays = {"x": np.arange(5)}
    np.testing.assert_array_equal(rows(arrays, 3, 4)["x"], [3, 4, 0, 1])
    assert [batch["x"].tolist() for batch in batches(arrays, 2)] == [[0, 1], [2, 3], [4]]


def test_every_builtin_has_a_baseline_and_is_named_by_the_nearest() -> None:
    """Each built-in workload has exactly one baseline among its default variants; a typo names the nearest."""
    for name in builtin_names():
        assert sum(bool(variant.get("baseline")) for variant in builtin(name).variants) == 1
    with pytest.raises(ConfigError, match="did you mean 'gpt2-text'"):
        builtin("gpt-text")


def test_a_folder_that_was_built_from_a_factory_is_a_model(tmp_path: Path) -> None:
    """The folder of a built variant is given as the model: its factory and its architecture are found in it."""
    from weighbridge.optimize import optimize
    from weighbridge.optimize.cache import ArtifactCache
    from weighbridge.optimize.loading import describe
    from weighbridge.optimize.model import Examples

    (tmp_path / "built_factories.py").write_text(
        "from torch import nn\ndef mlp(): return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))\n",
        encoding="utf-8",
    )
    values = np.random.default_rng(0).standard_normal((8, 2)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=values, y=np.arange(8) % 2)
    source = describe("module", "built_factories:mlp", "tabular-classification", search_path=str(tmp_path))
    built = optimize(
        source, "torch-fp32", examples=Examples(({"input": values},)), cache=ArtifactCache(tmp_path / "cache")
    )
    workload = {"task": "tabular-classification", "model": str(built.folder), "data": "rows.npz"}
    made = prepared(tmp_path, workload)
    assert (made.source.kind, made.source.reference) == ("module", str(built.folder))
    assert made.arrays("evaluation", 0)["input"].shape == (8, 2)


def test_nothing_is_timed_from_end_to_end_without_data(tmp_path: Path) -> None:
    """Inputs drawn from a model's signature have no text or pixels before them, and asking for those is refused."""
    helper = pytest.importorskip("onnx").helper
    value = helper.make_tensor_value_info("x", 1, ["batch", 2])
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g", [value], [helper.make_tensor_value_info("y", 1, ["batch", 2])]
    )
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(ConfigError, match="there are none: set \\[workload\\] data, or remove measure.end_to_end"):
        prepared(tmp_path, {"task": "tabular-classification", "model": "m.onnx"}, end_to_end=True)


def write_graph(folder: Path, name: str, kind: str, *dims: int | str, taken: str = "x") -> str:
    """An .onnx file that gives its one input back, of this type and these dimensions."""
    onnx = pytest.importorskip("onnx")
    code = onnx.TensorProto.DataType.Value(kind)
    inputs, outputs = ([onnx.helper.make_tensor_value_info(each, code, list(dims))] for each in (taken, "y"))
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", [taken], ["y"])], "g", inputs, outputs)
    onnx.save(onnx.helper.make_model(graph), str(folder / name))
    return name


def test_what_an_artifact_has_fixed_is_fixed_for_the_whole_run(tmp_path: Path) -> None:
    """Batch and length that only the candidate has fixed are those that are drawn; without it the model's are free."""
    free = write_graph(tmp_path, "free.onnx", "INT64", "batch", "sequence")
    fixed = write_graph(tmp_path, "fixed.onnx", "INT64", 1, 128)
    workload = {"task": "tabular-classification", "model": free}
    made = prepared(tmp_path, workload, [free, fixed])
    assert (made.fixed_batch, made.lengths) == (1, (128,))
    assert made.arrays("evaluation", 128)["x"].shape == (256, 128)
    alone = prepared(tmp_path / "alone", {**workload, "model": str(tmp_path / free)})
    assert (alone.fixed_batch, alone.lengths) == (None, (32,))


def test_drawn_inputs_of_another_size_are_other_data(tmp_path: Path) -> None:
    """What an artifact has fixed decides what is drawn, so that runs with and without it have not answered the same examples."""
    free = write_graph(tmp_path, "free.onnx", "FLOAT", "batch", "features")
    wide, narrow = (write_graph(tmp_path, f"{size}.onnx", "FLOAT", "batch", size) for size in (3, 2))
    workload = {"task": "tabular-classification", "model": str(tmp_path / free)}
    hashes = [
        prepared(tmp_path / f"of {name}", workload, [str(tmp_path / name)]).data_sha256 for name in (wide, narrow)
    ]
    assert hashes[0] != hashes[1]


def test_a_length_that_an_artifact_has_fixed_is_told(bert: Path, tmp_path: Path) -> None:
    """Texts for a model of free length are padded or cut to what the artifact takes, and the notice says so."""
    fixed = write_graph(tmp_path, "fixed.onnx", "INT64", "batch", 12, taken="input_ids")
    workload = {"model": str(bert), "data": table(tmp_path / "t.csv", TEXTS, LABELS)}
    made = prepared(tmp_path, workload, [fixed], sequence_lengths=(8, 16))
    assert (made.fixed_batch, made.lengths) == (None, (12,))
    assert made.arrays("evaluation", 12)["attention_mask"].shape == (24, 12)
    assert made.notices == ("A model of this run takes sequences of 12 tokens only; no other length was measured.",)


def test_the_batch_of_an_artifact_is_respected_with_data_too(tmp_path: Path) -> None:
    """Rows of a table are weighed in the batches of the artifact, whose probes then have its size."""
    free = write_graph(tmp_path, "free.onnx", "FLOAT", "batch", 2)
    fixed = write_graph(tmp_path, "fixed.onnx", "FLOAT", 4, 2)
    (tmp_path / "t.csv").write_text("a,b,label\n" + "1,2,0\n3,4,1\n" * 8, encoding="utf-8")
    made = prepared(tmp_path, {"task": "tabular-classification", "model": free, "data": "t.csv"}, [fixed])
    assert made.fixed_batch == 4
    assert [probe["x"].shape for probe in examples_of(made).probes] == [(4, 2)]


def test_artifacts_that_no_call_suits_are_refused(tmp_path: Path) -> None:
    """Two that have fixed a dimension at different sizes are named, with what to do; so is one that is missing."""
    workload = {"task": "tabular-classification", "model": write_graph(tmp_path, "free.onnx", "FLOAT", "batch", 2)}
    one, two = (write_graph(tmp_path, f"{size}.onnx", "FLOAT", size, 2) for size in (1, 2))
    with pytest.raises(
        InputError,
        match=r"dimension 0 \(the batch\) of the input 'x' is fixed by .*1\.onnx at 1 and by .*2\.onnx at 2\. Export one of",
    ):
        prepared(tmp_path, workload, [one, two])
    wide = write_graph(tmp_path, "wide.onnx", "FLOAT", "batch", 3)
    with pytest.raises(
        InputError, match=r"dimension 1 of the input 'x' is fixed by .*free\.onnx at 2 and by .*wide\.onnx at 3"
    ):
        prepared(tmp_path, workload, [wide])
    with pytest.raises(InputError, match=r"absent\.onnx is not a file"):
        prepared(tmp_path, workload, ["absent.onnx"])
