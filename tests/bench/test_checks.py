"""The check before the weighing: answers that are none fail their variant."""

from collections.abc import Callable
from pathlib import Path

import pytest
from weighbridge.bench.building import Built
from weighbridge.bench.checks import Checked, call_length, check
from weighbridge.bench.config import VariantConfig, WorkloadConfig
from weighbridge.bench.workloads.base import Prepared
from weighbridge.bench.workloads.fake import prepare_fake

Write = Callable[..., Path]


def checked(folder: Path, prepared: Prepared) -> Checked:
    built = Built(VariantConfig(name="v", backend="fake", precision="fp32"), "ok", folder=folder)
    return check(built, prepared, ({"batch_size": 1, "threads": 1},), threads=1, provider=None)


@pytest.mark.parametrize(
    ("outputs", "failure"),
    [
        ("scores", ""),
        ("constant", "outputs are constant: the same for all 300 examples"),
        ("random", "its answers to the same batch differ from call to call"),
        ("nan", "gave scores that are not finite numbers for 100.0% of the examples"),
    ],
)
def test_answers_that_are_none_fail_a_variant_however_it_was_made(
    outputs: str, failure: str, tmp_path: Path, fake_variant: Write, fake_workload: Prepared
) -> None:
    """Whatever a build or an adoption let through is caught here, with its reason; sound answers are kept."""
    found = checked(fake_variant(tmp_path / "v", outputs=outputs), fake_workload)
    assert found.failure.startswith(failure)
    assert bool(found.failure) == bool(failure)
    assert (found.answers is None) == bool(failure)


def test_a_few_examples_may_all_be_answered_alike(tmp_path: Path, fake_variant: Write, write_behaviour: Write) -> None:
    """Fifteen equal rows of scores prove nothing: a sound model may be sure of so few."""
    source = write_behaviour(tmp_path / "s.fake.json")
    config = WorkloadConfig(name="w", task="tabular-classification", model=str(source), max_examples=15)
    prepared = prepare_fake(config, source, tmp_path / "prepared")
    assert checked(fake_variant(tmp_path / "v", outputs="constant"), prepared).failure == ""


def test_the_length_of_a_call_leaves_the_first_one_out() -> None:
    """The median of the calls after the first, a call being the sum of its parts; the first alone where there is no other."""
    assert call_length([[90.0], [1.0, 1.0], [2.0, 1.0], [4.0, 0.0]]) == 3.0
    assert call_length([[90.0]]) == 90.0
