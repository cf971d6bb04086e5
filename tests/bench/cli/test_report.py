"""`weighbridge report` on what is no run folder."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner
from weighbridge.bench.cli.main import app
from weighbridge.optimize.errors import ConfigError


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A file of pytest-benchmark with one benchmark."""
    stats = dict.fromkeys(("min", "max", "mean", "stddev", "median", "iqr"), 0.001)
    path = tmp_path / "saved.json"
    path.write_text(json.dumps({"benchmarks": [{"name": "x", "stats": {**stats, "rounds": 3}}]}), encoding="utf-8")
    return path


def test_a_file_of_pytest_benchmark_is_rendered(saved: Path) -> None:
    """The command prints where the summary is, which stands beside the file and warns."""
    done = CliRunner().invoke(app, ["report", str(saved), "--format", "md"])
    assert done.exit_code == 0, done.output
    assert done.output.strip() == str(saved.with_name("saved-report.md"))
    assert "not interleaved" in saved.with_name("saved-report.md").read_text(encoding="utf-8")


def test_files_and_run_folders_do_not_mix(saved: Path, tmp_path: Path) -> None:
    """A file beside a run folder is refused with both named."""
    done = CliRunner().invoke(app, ["report", str(tmp_path), str(saved)])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception) == (
        f"{saved} is a file and {tmp_path} a run folder; they have no page in common: render each kind by itself"
    )
