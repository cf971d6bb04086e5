"""The generator harness: `pytest --pyargs weighbridge.bench` shows each variant of a generator as a pytest-benchmark row.

A row's times are those of whole requests; the times to the first token and between tokens stand in `extra_info`.
"""

from collections.abc import Callable

import pytest
from weighbridge.bench.harness import generate_rows, record, replay

__all__ = ["record", "replay"]  # fixtures, which pytest finds in this module


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a row of every workload, shape and variant."""
    generate_rows(metafunc, "decoder")


def test_generator(record: Callable[[], None]) -> None:
    """A variant of a generator at a shape: its requests replayed, its verdicts settled."""
    record()
