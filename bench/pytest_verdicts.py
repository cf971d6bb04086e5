"""How verdicts become the outcome of a test: what is not passed fails it with its sentence."""

from collections.abc import Iterable
from typing import NoReturn

import pytest

from ..optimize.errors import WeighbridgeError
from .cli.console import plain
from .results import Gate, Verdict

_WORST_FIRST = ("fail", "not_evaluated", "inconclusive", "pass")


class WeighbridgeWarning(pytest.PytestWarning):
    """A verdict that did not fail its test and that a reader should see."""


def verdict_of(gates: Iterable[Gate]) -> Verdict | str:
    """The worst verdict; `not_judged` where there is none."""
    return min((gate.verdict for gate in gates), key=_WORST_FIRST.index, default="not_judged")


def settle(node: pytest.Item, verdicts: Iterable[tuple[str, str]]) -> None:
    """Fail the test with the sentences of what did not pass; `verdicts` are pairs of verdict and sentence.

    With --weighbridge-inconclusive=warn an undecided rule is a warning. Every sentence is kept as a property of the test's
    report, which JUnit's XML shows.
    """
    undecided_warns = node.config.getoption("weighbridge_inconclusive") == "warn"
    wrong = []
    for verdict, sentence in verdicts:
        node.user_properties.append(("weighbridge", sentence))
        if verdict == "inconclusive" and undecided_warns:
            node.warn(WeighbridgeWarning(plain(sentence)))
        elif verdict != "pass":
            wrong.append(sentence)
    if wrong:
        refuse(*wrong)


def settle_gates(node: pytest.Item, gates: Iterable[Gate]) -> None:
    """Settle a run's verdicts; one that is flagged as suspicious is a warning besides."""
    gates = list(gates)
    for gate in gates:
        if gate.suspicious:
            warn_of_gain(node, gate.sentence)
    settle(node, ((gate.verdict, gate.sentence) for gate in gates))


def warn_of_gain(node: pytest.Item, sentence: str) -> None:
    """Warn of a verdict whose gain is too good to be believed without a look."""
    node.warn(WeighbridgeWarning(plain(f"suspicious: {sentence}. Look whether it does the work")))


def refuse(*sentences: str | WeighbridgeError) -> NoReturn:
    """Fail the test with these sentences alone: no line of the test is to blame, so no traceback is shown."""
    raise pytest.fail.Exception("\n".join(plain(str(sentence)) for sentence in sentences), pytrace=False) from None
