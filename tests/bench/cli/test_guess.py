"""Configs that the command line makes for what was given without one."""

from pathlib import Path

import pytest
from weighbridge.bench.cli.guess import columns_of, config_of_builtin
from weighbridge.optimize.errors import ConfigError, InputError


def test_a_built_in_workload_alone_is_named_after_itself() -> None:
    """Its name is the run's; nothing of its own is given; the preset is no-regression."""
    config = config_of_builtin("row-lstm", None, None, None)
    assert (config.workload.name, config.workload.builtin, config.workload.data) == ("row-lstm", "row-lstm", None)
    assert config.gates.preset == "no-regression"


def test_own_data_and_an_own_model_go_into_the_config(tmp_path: Path) -> None:
    """The two columns of a table are its text and label; labels and model are passed on."""
    (tmp_path / "mail.csv").write_text("body,label\nhello,ham\n", encoding="utf-8")
    workload = config_of_builtin("bert-sentiment", "some/bert", tmp_path / "mail.csv", None).workload
    assert (workload.model, workload.data) == ("some/bert", str(tmp_path / "mail.csv"))
    assert (workload.columns.text, workload.columns.label) == ("body", "label")
    (tmp_path / "t-idx3-ubyte").write_bytes(b"")
    workload = config_of_builtin("row-lstm", None, tmp_path / "t-idx3-ubyte", Path("l-idx1-ubyte")).workload
    assert (workload.data, workload.labels) == (str(tmp_path / "t-idx3-ubyte"), "l-idx1-ubyte")


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("body,label", {"text": "body", "label": "label"}),
        ("text,label", {}),
        ("text,topic", {"text": "text", "label": "topic"}),
    ],
)
def test_a_mark_of_byte_order_is_no_part_of_a_column(header: str, columns: dict[str, str], tmp_path: Path) -> None:
    """Of a table that a program has begun with a byte-order mark the first column has its own name."""
    (tmp_path / "t.csv").write_text(f"{header}\nhello,ham\n", encoding="utf-8-sig")
    assert columns_of(tmp_path / "t.csv") == columns


def test_what_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    """A config beside a workload, data that is not there, and a model for what starts from nothing."""
    with pytest.raises(
        ConfigError, match="a.toml is a config and names what is weighed; leave out --workload, or name"
    ):
        config_of_builtin("row-lstm", "a.toml", None, None)
    with pytest.raises(InputError, match=r"absent.csv is not a file"):
        config_of_builtin("bow-mlp", None, tmp_path / "absent.csv", None)
    with pytest.raises(ConfigError, match="bow-mlp is trained from nothing"):
        config_of_builtin("bow-mlp", "some/bert", None, None)
