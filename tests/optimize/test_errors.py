"""Error texts help: they name the nearest allowed word, and the exit code fits the kind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge.optimize import errors
from weighbridge.optimize.errors import WeighbridgeError, first_line, one_of


def test_the_nearest_name_is_suggested() -> None:
    """A typo is answered with the nearest allowed name and with all allowed ones."""
    text = one_of("metric", "latency_p5", ["latency_p50", "accuracy"])
    assert text == "unknown metric 'latency_p5'; did you mean 'latency_p50'? Allowed: accuracy, latency_p50"


def test_a_far_name_gets_no_suggestion() -> None:
    """Where nothing is near, the allowed names alone are given; an empty list is said to be one."""
    assert one_of("backend", "zzz", ["torch"]) == "unknown backend 'zzz'. Allowed: torch"
    assert one_of("backend", "zzz", []) == "unknown backend 'zzz'. Allowed: none"


@given(st.text(), st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_every_allowed_name_is_named(given_name: str, allowed: list[str]) -> None:
    """Whatever is given, the sentence holds it and every allowed name."""
    text = one_of("thing", given_name, allowed)
    assert all(name in text for name in (given_name, *allowed))


def test_only_the_first_line_of_a_foreign_error_is_shown() -> None:
    """A foreign error is its kind and its first line that says something, cut at 300 characters."""
    assert first_line(ValueError("\n  bad shape\nand more")) == "ValueError: bad shape"
    assert first_line(KeyError()) == "KeyError"
    assert len(first_line(ValueError("x" * 900))) == len("ValueError: ") + 300


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ConfigError", 2),
        ("InputError", 2),
        ("NotAvailableYetError", 2),
        ("UnavailableError", 4),
        ("BuildError", 4),
        ("WorkerError", 4),
    ],
)
def test_each_error_has_its_exit_code(name: str, code: int) -> None:
    """What the user wrote wrongly exits with 2; a variant that failed or cannot run exits with 4."""
    kind: type[WeighbridgeError] = getattr(errors, name)
    assert issubclass(kind, WeighbridgeError)
    assert kind.exit_code == code
