"""The classifier harness: `pytest --pyargs weighbridge.bench` shows each variant of a classifier as a pytest-benchmark row."""

from collections.abc import Callable

import pytest
from weighbridge.bench.harness import generate_rows, record, replay

__all__ = ["record", "replay"]  # fixtures, which pytest finds in this module


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a row of every workload, shape and variant."""
    generate_rows(metafunc, "classifier")


def test_classifier(record: Callable[[], None]) -> None:
    """A variant of a classifier at a shape: its calls replayed, its verdicts settled."""
    record()
