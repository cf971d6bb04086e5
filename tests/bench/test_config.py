"""The config: what is read, what is filled in, and every sentence that refuses."""

from pathlib import Path
from typing import Any

import pytest
from weighbridge.bench.config import find_config, load_config, parse_config, to_toml
from weighbridge.optimize.errors import ConfigError

WORKLOAD = {"name": "w", "task": "text-classification", "model": "folder", "data": "test.csv"}
BASE = {"backend": "torch", "precision": "fp32", "baseline": True}
INT8 = {"backend": "onnxruntime", "precision": "int8"}


def config_with(**parts: Any) -> dict[str, Any]:
    return {"workload": WORKLOAD, "variants": [BASE, INT8], **parts}


def test_names_default_to_backend_and_precision() -> None:
    """A variant without a name is called by its backend and precision."""
    config = parse_config(config_with(), "c")
    assert [variant.name for variant in config.variants] == ["torch-fp32", "onnxruntime-int8"]
    assert config.baseline.name == "torch-fp32"


def test_a_resolved_config_reads_back_equal(tmp_path: Path) -> None:
    """The TOML that is written with all defaults reads back as the same config."""
    config = parse_config(
        config_with(gates={"rules": [{"metric": "accuracy", "compare": "difference", "min": -0.01}]}), "c"
    )
    path = tmp_path / "weighbridge.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert load_config(path) == config


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"workload": {**WORKLOAD, "modle": "x"}}, r"workload\.modle: unknown key 'modle'; did you mean 'model'\?"),
        ({"messure": {}}, r"messure: unknown key 'messure'; did you mean 'measure'\?"),
        ({"measure": {"batch_size": [1]}}, r"did you mean 'batch_sizes'\?"),
        ({"measure": {"threads": "many"}}, r"measure\.threads: .*valid integer.*given 'many'"),
        ({"measure": {"batch_sizes": [0]}}, "batch_sizes must be different whole numbers of at least 1"),
        ({"measure": {"batch_sizes": [1, 1]}}, "batch_sizes must be different whole numbers"),
        ({"variants": [BASE, {**BASE, "baseline": False}]}, "two variants are named torch-fp32"),
        ({"variants": [INT8]}, "exactly one variant must have baseline = true; given none"),
        ({"variants": [BASE, {**INT8, "baseline": True}]}, "exactly one variant must have baseline = true"),
        ({"variants": [BASE, {"precision": "int8"}]}, "backend is missing: torch, onnxruntime"),
        (
            {"variants": [BASE, {**INT8, "backend": "onnxruntim"}]},
            "unknown backend 'onnxruntim'; did you mean 'onnxruntime'",
        ),
        ({"variants": [BASE, {**INT8, "precision": "int7"}]}, r"variants\.1\.precision"),
        (
            {"variants": [BASE, {**INT8, "steps": [{"use": "static-int9"}]}]},
            "unknown technique 'static-int9'; did you mean 'static-int8'",
        ),
        ({"variants": [BASE, {**INT8, "steps": [{"ratio": 1}]}]}, 'a step needs use = "NAME"'),
        ({"variants": [BASE, {**INT8, "name": "../evil"}]}, r"variants\.1\.name"),
        (
            {"gates": {"rules": [{"metric": "latancy_p50", "max": 1}]}},
            "unknown metric 'latancy_p50'; did you mean 'latency_p50'",
        ),
        ({"gates": {"rules": [{"metric": "accuracy"}]}}, "rule on accuracy: give exactly one of min and max"),
        ({"gates": {"rules": [{"metric": "accuracy", "min": 0, "max": 1}]}}, "give exactly one of min and max"),
        (
            {"gates": {"required": ["onnxruntime-int9"]}},
            "unknown variant 'onnxruntime-int9'; did you mean 'onnxruntime-int8'",
        ),
        (
            {"gates": {"rules": [{"metric": "accuracy", "min": 0, "conditions": {"batchsize": 1}}]}},
            "unknown condition 'batchsize'; did you mean 'batch_size'",
        ),
        (
            {"gates": {"rules": [{"metric": "latency_p50", "max": 1, "slice": "language"}]}},
            "rule on latency_p50: a slice is of the examples, so only quality has one; remove slice",
        ),
        (
            {"gates": {"rules": [{"metric": "accuracy", "min": 1, "slice": "a", "conditions": {"slice": "b=1"}}]}},
            "slice is 'a', but the condition names 'b=1'",
        ),
        (
            {"gates": {"rules": [{"metric": "accuracy", "min": 1, "slice": "a=1"}]}},
            "slice 'a=1': a column's name must not be empty or hold =",
        ),
        ({"workload": {**WORKLOAD, "columns": {"slices": [""]}}}, "slice '': a column's name must not be empty"),
        ({"gates": {"preset": "regression"}}, r"gates\.preset"),
        ({"workload": {"name": "w"}}, "give either model .* or builtin"),
        ({"workload": {"name": "w", "model": "m"}}, "task is missing: text-classification"),
        ({"workload": {**WORKLOAD, "preprocess": {"std": [0.0]}}}, "std must be above 0"),
        ({"measure": {"concurrency": [0]}}, r"concurrency must be different whole numbers of at least 1; given \[0\]"),
        (
            {"measure": {"max_new_tokens": 0}},
            r"max_new_tokens must be different whole numbers of at least 1; given \[0\]",
        ),
        ({"measure": {"max_new_tokens": [8, 8]}}, r"max_new_tokens must be different whole numbers .* given \[8, 8\]"),
        ({"measure": {"rates": [5, 5]}}, r"rates must be different numbers above 0; given \[5.0, 5.0\]"),
        ({"measure": {"latency_limit": {"latency_p95": 20}}}, "latency_limit needs rates: requests/s to try"),
        (
            {"measure": {"rates": [5], "latency_limit": {"latency_mean": 20}}},
            "latency_limit must hold one of latency_p50, latency_p90, latency_p95, latency_p99 and its limit in ms",
        ),
        (
            {"measure": {"rates": [5], "latency_limit": {"latency_p50": 20, "latency_p95": 30}}},
            "latency_limit must hold one of",
        ),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused_with_a_sentence(parts: dict[str, Any], sentence: str) -> None:
    """Unknown keys name the nearest, wrong values say what was given, contradictions say which."""
    with pytest.raises(ConfigError, match=sentence):
        parse_config(config_with(**parts), "weighbridge.toml")


def test_columns_to_keep_are_those_named_and_those_that_rules_slice_by() -> None:
    """Each column once: first those of the workload, then those of rules, by `slice` or by a condition on one slice."""
    rules = [
        {"metric": "accuracy", "min": 0, "slice": "language"},
        {"metric": "accuracy", "min": 0, "conditions": {"slice": "country=de"}},
        {"metric": "accuracy", "min": 0, "slice": "source"},
    ]
    workload = {**WORKLOAD, "columns": {"slices": ["source"]}}
    assert parse_config(config_with(workload=workload, gates={"rules": rules}), "c").sliced == (
        "source",
        "language",
        "country",
    )


def test_a_missing_malformed_or_undecodable_file_is_refused(tmp_path: Path) -> None:
    """A config that is absent, not TOML or not UTF-8 gives a sentence that says which."""
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_config(tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[workload\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load_config(broken)
    broken.write_bytes(b"name = '\xff'")
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 8\)"):
        load_config(broken)


def test_a_config_is_found_in_its_own_file_or_in_pyproject(tmp_path: Path) -> None:
    """weighbridge.toml goes before [tool.weighbridge]; with neither the error says `init`."""
    with pytest.raises(ConfigError, match="weighbridge init"):
        find_config(tmp_path)
    project = tmp_path / "pyproject.toml"
    project.write_text('[tool.weighbridge.workload]\nname = "p"\nbuiltin = "digits-cnn"\n', encoding="utf-8")
    assert find_config(tmp_path) == project
    assert load_config(project).workload.name == "p"
    own = tmp_path / "weighbridge.toml"
    own.write_text('[workload]\nname = "o"\nbuiltin = "digits-cnn"\n', encoding="utf-8")
    assert find_config(tmp_path) == own


@pytest.mark.parametrize(
    ("parts", "place"),
    [
        ({"gates": {"rules": [{"metric": "latency_p50", "max": float("nan")}]}}, r"gates\.rules\.0\.max"),
        ({"gates": {"rules": [{"metric": "accuracy", "min": float("-inf")}]}}, r"gates\.rules\.0\.min"),
        ({"measure": {"max_seconds": float("inf")}}, r"measure\.max_seconds"),
        ({"measure": {"rates": [float("inf")]}}, r"measure\.rates\.0"),
        (
            {"variants": [BASE, {**INT8, "steps": [{"use": "structured-pruning", "ratio": float("nan")}]}]},
            "step 'structured-pruning': ratio",
        ),
    ],
)
def test_numbers_that_are_not_finite_are_refused(parts: dict[str, Any], place: str) -> None:
    """TOML can write nan and inf; a limit of nan would hold for every value, so that none is taken anywhere."""
    with pytest.raises(ConfigError, match=f"{place}: Input should be a finite number"):
        parse_config(config_with(**parts), "c")


def test_an_error_rate_that_no_run_can_hold_is_refused() -> None:
    """Below one in a billion no quantile is told apart from infinity."""
    with pytest.raises(ConfigError, match=r"measure\.error_rate: Input should be greater than or equal to"):
        parse_config(config_with(measure={"error_rate": 1e-12}), "c")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a = " + "[" * 100_000, "is not valid TOML: it is nested too deeply"),
        ("a = " + "1" * 5000, "is not valid TOML: Exceeds the limit"),
        ("[measure]\nthreads = 0x1" + 16 * "0", "is not valid TOML: it holds a whole number of more than 64 bits"),
    ],
)
def test_toml_that_no_reader_can_take_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    """Nesting without end and numbers without end are told as what they are."""
    path = tmp_path / "weighbridge.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=sentence):
        load_config(path)


def test_a_pyproject_whose_tools_are_no_table_has_no_config(tmp_path: Path) -> None:
    """`tool = 5` is read as no config of ours at all."""
    path = tmp_path / "pyproject.toml"
    path.write_text("tool = 5\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="workload: Field required"):
        load_config(path)


def test_a_long_value_is_shown_by_its_beginning() -> None:
    """An error text holds at most 200 letters of what was given."""
    with pytest.raises(ConfigError, match="given 'xxx") as caught:
        parse_config(config_with(measure={"threads": "x" * 100_000}), "c")
    assert len(str(caught.value)) < 400
