"""What a user brings to a built-in workload: read as it is meant, split fairly, refused where nothing could be learnt."""

import gzip
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from weighbridge.bench.config import MeasureConfig, WorkloadConfig, parse_config
from weighbridge.bench.reporter import ignore
from weighbridge.bench.running import Options, complete
from weighbridge.bench.workloads import builtin
from weighbridge.bench.workloads.base import Prepared
from weighbridge.bench.workloads.builtin import Request
from weighbridge.bench.workloads.own_data import Own, check_builtin, own_data
from weighbridge.bench.workloads.prepare import prepare
from weighbridge.optimize.errors import ConfigError, InputError

RARE = ["fruit"] * 40 + ["metal"] * 15 + ["tree"] * 5


def own(folder: Path, name: str, **workload: Any) -> Own:
    return own_data(WorkloadConfig.model_validate({"name": "w", "builtin": name, **workload}), folder)


def table(path: Path, labels: list[str], stem: str = "text") -> str:
    lines = [f"{stem} {row},{label}" for row, label in enumerate(labels)]
    path.write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    return path.name


def idx(path: Path, values: np.ndarray) -> str:
    """Write bytes as an idx file, packed."""
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))
    return path.name


def test_without_data_the_workload_has_its_own(tmp_path: Path) -> None:
    """The request is the seed alone, and there is nothing to tell."""
    assert own(tmp_path, "bow-mlp", seed=7) == Own(Request(7))


def test_calibration_is_trained_on_and_data_evaluated(tmp_path: Path) -> None:
    """Two files are taken as they are, under the columns that are named; the one to evaluate may be without labels."""
    train, test = table(tmp_path / "train.csv", RARE), table(tmp_path / "test.csv", ["fruit"] * 3, stem="other")
    found = own(tmp_path, "topic-lstm", data=test, calibration=train)
    assert found.notice == ""
    assert found.request.training is not None
    assert found.request.evaluation is not None
    assert found.request.training.labels == tuple(RARE)
    assert found.request.evaluation.texts == ("other 0", "other 1", "other 2")
    (tmp_path / "bare.csv").write_text("text\na\nb\n", encoding="utf-8")
    bare = own(tmp_path, "topic-lstm", data="bare.csv", calibration=train).request.evaluation
    assert bare is not None
    assert bare.labels is None


def test_data_alone_is_split_with_the_same_share_of_each_class(tmp_path: Path) -> None:
    """Of 60 rows 12 are evaluated, a fifth of each class, no row twice; the seed decides which, and a sentence says so."""
    data = table(tmp_path / "all.csv", RARE)
    drawn = []
    for seed in (0, 0, 1):
        found = own(tmp_path, "topic-lstm", data=data, seed=seed)
        training, evaluation = found.request.training, found.request.evaluation
        assert training is not None
        assert evaluation is not None
        assert Counter(evaluation.labels or ()) == {"fruit": 8, "metal": 3, "tree": 1}
        assert set(training.texts or ()) | set(evaluation.texts or ()) == {f"text {row}" for row in range(60)}
        assert len(training) + len(evaluation) == 60
        assert found.notice.startswith("topic-lstm was trained on 48 rows of all.csv and is evaluated on the other 12")
        drawn.append(evaluation.texts)
    assert drawn[0] == drawn[1] != drawn[2]


def test_images_and_their_labels_come_from_files_of_their_own(tmp_path: Path) -> None:
    """idx files as those of MNIST, for training and evaluation."""
    random = np.random.default_rng(0)
    files = {
        "data": idx(tmp_path / "t-images-idx3-ubyte.gz", random.integers(0, 256, (4, 5, 6))),
        "labels": idx(tmp_path / "t-labels-idx1-ubyte.gz", np.array([1, 7, 7, 1])),
        "calibration": idx(tmp_path / "train-images-idx3-ubyte.gz", random.integers(0, 256, (6, 5, 6))),
        "calibration_labels": idx(tmp_path / "train-labels-idx1-ubyte.gz", np.array([1, 7, 1, 7, 1, 7])),
    }
    request = own(tmp_path, "row-lstm", **files).request
    assert request.training is not None
    assert request.evaluation is not None
    assert (request.training.labels, request.evaluation.labels) == (("1", "7") * 3, ("1", "7", "7", "1"))
    assert np.asarray(request.evaluation.values).shape == (4, 5, 6)


def test_text_is_cut_at_the_end_of_a_line(tmp_path: Path) -> None:
    """Of a text alone the first four fifths, to the end of a line, are trained on; two texts are taken whole."""
    lines = [f"line {number:02d}" for number in range(20)]
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "b.txt").write_text("something else", encoding="utf-8")
    found = own(tmp_path, "gpt2-text", data="a.txt")
    assert (found.request.training_text, found.request.evaluation_text) == (
        "\n".join(lines[:15]) + "\n",
        "\n".join(lines[15:]),
    )
    assert (
        found.notice == "gpt2-text was trained on the first 120 characters of a.txt and is evaluated on the other 39."
    )
    request = own(tmp_path, "gpt2-text", data="a.txt", calibration="b.txt").request
    assert (request.training_text, request.evaluation_text) == ("something else", "\n".join(lines))


def test_a_table_of_prompts_is_evaluated_and_never_cut(tmp_path: Path) -> None:
    """Prompts stay a table; without training data of the user's the workload keeps its own, and a sentence says so."""
    (tmp_path / "p.csv").write_text("text,answer\nwho, me\nwhere, here\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("something else", encoding="utf-8")
    alone = own(tmp_path, "gpt2-text", data="p.csv")
    assert (alone.request, alone.table) == (Request(0), tmp_path / "p.csv")
    assert alone.notice == "gpt2-text was trained on its own texts: the prompts of p.csv are only evaluated."
    both = own(tmp_path, "gpt2-text", data="p.csv", calibration="b.txt", columns={"reference": "answer"})
    assert (both.request.training_text, both.request.evaluation_text) == ("something else", "who me\nwhere here")
    assert (both.table, both.notice) == (tmp_path / "p.csv", "")


def test_a_model_is_a_folder_beside_the_config_or_a_hub_id(tmp_path: Path) -> None:
    """What exists beside the config is that; what does not is left as the name of a model on the hub."""
    (tmp_path / "mine").mkdir()
    assert own(tmp_path, "gpt2-text", model="mine").request.model == str(tmp_path / "mine")
    assert own(tmp_path, "bert-sentiment", model="who/what").request.model == "who/what"


@pytest.mark.parametrize(
    ("workload", "sentence"),
    [
        ({"builtin": "topic-lstmm"}, "unknown workload 'topic-lstmm'; did you mean 'topic-lstm'"),
        (
            {"builtin": "row-lstm", "model": "m"},
            "row-lstm is trained from nothing; only bert-sentiment, gpt2-text start from a model. Remove model",
        ),
        (
            {"builtin": "row-lstm", "task": "text-generation"},
            "workload.task is text-generation, but row-lstm is for image-classification",
        ),
        ({"builtin": "bow-mlp", "tokenizer": "t"}, "workload.tokenizer: bow-mlp brings its own; remove tokenizer"),
        ({"builtin": "digits-cnn", "preprocess": {"mean": [0.1]}}, "workload.preprocess: digits-cnn brings its own"),
        ({"builtin": "digits-cnn", "labels": "l"}, "workload.labels belongs to workload.data, which is not given"),
        ({"builtin": "bow-mlp", "calibration": "c"}, "workload.calibration belongs to workload.data"),
        (
            {"builtin": "bow-mlp", "data": "d", "calibration_labels": "l"},
            "workload.calibration_labels belongs to workload.calibration",
        ),
    ],
)
def test_what_a_workload_does_not_take_is_refused_before_anything_starts(
    workload: dict[str, Any], sentence: str
) -> None:
    """Each sentence says what is not taken and what to do; a whole config is held to it when it is completed."""
    with pytest.raises(ConfigError, match=sentence):
        check_builtin(WorkloadConfig.model_validate({"name": "w", **workload}))
    with pytest.raises(ConfigError, match=sentence):
        complete(parse_config({"workload": workload}, "c"), Options())


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (["fruit"] * 10, r"data d.csv has one label only \(fruit\); at least two classes"),
        (["fruit"] * 9 + ["tree"], "has 1 row of class 'tree', and needs 5 of each to be split"),
        (["fruit"] * 9 + ["tree"] * 4, "has 4 rows of class 'tree'"),
    ],
)
def test_labels_from_which_nothing_can_be_learnt_are_refused(labels: list[str], sentence: str, tmp_path: Path) -> None:
    """One class, or too few rows of one to be on both sides of a split."""
    with pytest.raises(InputError, match=sentence):
        own(tmp_path, "bow-mlp", data=table(tmp_path / "d.csv", labels))


def test_rows_that_do_not_fit_the_training_rows_are_refused(tmp_path: Path) -> None:
    """Rows without labels to train on, labels that were never learnt, one class to train on, values of another shape."""
    (tmp_path / "bare.csv").write_text("text\na\nb\n", encoding="utf-8")
    data = table(tmp_path / "d.csv", ["fruit", "stone"])
    for calibration, sentence in (
        ("bare.csv", "calibration bare.csv has no labels to learn from; name their column"),
        (table(tmp_path / "one.csv", ["fruit"] * 3), "calibration one.csv has one label only"),
        (table(tmp_path / "c.csv", RARE), "not in the training data: stone; there they are fruit, metal, tree"),
    ):
        with pytest.raises(InputError, match=sentence):
            own(tmp_path, "bow-mlp", data=data, calibration=calibration)
    with pytest.raises(InputError, match="data bare.csv has no labels to learn from"):
        own(tmp_path, "bow-mlp", data="bare.csv")
    for name, columns in (("two.npz", 2), ("three.npz", 3)):
        np.savez(tmp_path / name, x=np.zeros((4, columns)), y=np.arange(4) % 2)
    with pytest.raises(InputError, match=r"rows of shape \(2,\), the data to evaluate rows of shape \(3,\)"):
        own(tmp_path, "two-feature", data="three.npz", calibration="two.npz")
    with pytest.raises(InputError, match="calibration and data are the same file"):
        own(tmp_path, "bow-mlp", data=data, calibration=data)


def test_own_numbers_go_the_whole_way_to_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CSV of numbers is split, trained on and prepared: raw features, the labels' own names, a notice that reads back."""
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    lines = [
        f"{random.normal(100 * side, 20):.3f},{random.normal():.3f},{'high' if side else 'low'}" for side in [0, 1] * 40
    ]
    (tmp_path / "n.csv").write_text("\n".join(["a,b,label", *lines]), encoding="utf-8")
    config = WorkloadConfig(name="w", builtin="two-feature", data="n.csv")
    made = prepare(config, MeasureConfig(), tmp_path / "prepared", ignore, base=tmp_path)
    assert Prepared.read(made.folder) == made
    assert made.class_names == ("high", "low")
    assert made.arrays("evaluation", 0)["features"].shape == (16, 2)
    assert float(made.arrays("evaluation", 0)["features"].max()) > 50
    assert made.calibration_sha256 is not None
    (notice,) = made.notices
    assert notice.startswith("two-feature was trained on 64 rows of n.csv and is evaluated on the other 16")


def test_a_complete_config_says_what_the_workload_decides() -> None:
    """Its task, its variants and its sequence length are written down; a length that is given stays."""
    config = complete(parse_config({"workload": {"builtin": "topic-lstm"}}, "c"), Options())
    assert config.workload.task == "text-classification"
    assert config.measure.sequence_lengths == (100,)
    assert [each.name for each in config.variants][:2] == ["torch-fp32", "torch-bf16"]
    assert len(config.variants) == len(builtin("topic-lstm").variants)
    given = parse_config({"workload": {"builtin": "topic-lstm"}, "measure": {"sequence_lengths": [32]}}, "c")
    assert complete(given, Options()).measure.sequence_lengths == (32,)
    assert complete(config, Options()) == config
