"""The verdict in words."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from weighbridge.bench.results import read_results
from weighbridge.reports import verdicts
from weighbridge.reports.findings import Findings

Make = Callable[..., Any]


def headline(results: Any) -> verdicts.Headline:
    return verdicts.headline(Findings(results))


def test_the_fastest_that_passes_is_shipped(results_of: Make, candidate: Make) -> None:
    """Of two variants that pass the faster is named with its gains, the other beside it."""
    answer = headline(
        results_of(
            candidate("quick", (1 / 4.6, 1 / 4.8, 1 / 4.4), (-0.002, -0.005, 0.001)),
            candidate("slower", (0.5, 0.4, 0.6)),
        )
    )
    assert answer.label == "Ship"
    assert answer.text == ("Ship quick: 4.6x faster [4.4, 4.8], accuracy -0.2 points [-0.5, +0.1], 4.0x smaller.")
    assert answer.support == ("Also passing every rule: slower.",)


def test_a_variant_that_fails_one_rule_is_not_shipped(results_of: Make, candidate: Make) -> None:
    """The fastest variant breaks a rule, so the slower one that passes is shipped."""
    results = results_of(candidate("broken", (0.1, 0.09, 0.11), verdicts=("pass", "fail")), candidate("sound"))
    assert headline(results).text.startswith("Ship sound:")


def test_none_is_shipped_where_each_breaks_a_rule(results_of: Make, candidate: Make) -> None:
    """With no variant left the answer is no, and the nearest and its broken rule are named."""
    results = results_of(
        candidate("one", verdicts=("fail", "fail")), candidate("two", (0.9, 0.8, 0.95), verdicts=("pass", "fail"))
    )
    answer = headline(results)
    assert (answer.tone, answer.text) == ("stop", "Ship none of the 2 candidates: each breaks a rule.")
    assert answer.support[0].startswith("Nearest: two, 1.11x faster")
    assert answer.support[0].endswith("breaks: accuracy at least -1 points against base.")


def test_one_refused_candidate_is_named(results_of: Make, candidate: Make) -> None:
    """A single candidate that breaks a rule is refused by name."""
    assert (
        headline(results_of(candidate("only", verdicts=("pass", "fail")))).text == "Do not ship only: it breaks a rule."
    )


def test_rules_name_what_was_judged_against(results_of: Make, candidate: Make) -> None:
    """Judged against a saved run the rules and the broken one speak of that run; what was gained stays against the baseline."""
    results = dataclasses.replace(results_of(candidate("only", verdicts=("fail", "pass"))), reference="then")
    assert [rule.text for rule in verdicts.rules(Findings(results))] == [
        "p50 latency at most 1.03x that of then",
        "accuracy at least -1 points against then",
    ]
    assert headline(results).support[0].endswith("breaks: p50 latency at most 1.03x that of then.")


def test_results_without_a_reference_were_judged_against_the_baseline(
    results_of: Make, candidate: Make, tmp_path: Path
) -> None:
    """A results.json of before runs were told apart reads as judged against its own baseline."""
    data = results_of(candidate("x")).to_dict()
    del data["reference"]
    (tmp_path / "results.json").write_text(json.dumps(data), encoding="utf-8")
    found = read_results(tmp_path)
    assert (found.reference, Findings(found).reference) == ("", "base")


def test_undecided_says_what_it_takes(results_of: Make, candidate: Make) -> None:
    """A variant that breaks no rule but is undecided on one is not shipped, and the judge's sentence is shown."""
    answer = headline(results_of(candidate("maybe", verdicts=("pass", "inconclusive"))))
    assert answer.tone == "open"
    assert answer.text.startswith("Undecided: maybe breaks no rule (2.0x faster")
    assert answer.text.endswith("but accuracy could not be decided.")
    assert answer.support == ("maybe: accuracy is inconclusive",)


def test_not_evaluated_is_never_a_pass(results_of: Make, candidate: Make) -> None:
    """A rule that could not be evaluated keeps its variant from being shipped."""
    assert headline(results_of(candidate("maybe", verdicts=("pass", "not_evaluated")))).tone == "open"


def test_an_implausible_gain_is_looked_at_first(results_of: Make, candidate: Make) -> None:
    """A suspicious variant is not recommended, alone or beside a sound one."""
    odd = candidate("odd", (0.01, 0.009, 0.011), suspicious=True)
    assert headline(results_of(odd)).text.startswith("Look at odd before shipping it")
    beside = headline(results_of(odd, candidate("sound")))
    assert beside.text.startswith("Ship sound:")
    assert beside.support == ("odd passes too, but its gain is implausible: look at its audit first.",)


def test_without_rules_nothing_was_judged(results_of: Make, candidate: Make) -> None:
    """Without a rule the answer says so and still tells the fastest."""
    answer = headline(results_of(candidate("quick", verdicts=())))
    assert answer.text == "Nothing was judged: the config has no rules and no preset."
    assert answer.support[0].startswith("Fastest: quick, 2.0x faster")


def test_no_gain_keeps_the_baseline(results_of: Make, candidate: Make) -> None:
    """A variant that passes but is neither faster nor smaller is no reason to deploy."""
    answer = headline(results_of(candidate("same", (1.01, 1.0, 1.02), bytes=4_000_000)))
    assert answer.label == "Keep the baseline"
    assert headline(results_of(candidate("same", (1.01, 1.0, 1.02), bytes=1_000_000))).label == "Ship"


def test_no_candidate_left(results_of: Make, candidate: Make) -> None:
    """Where every candidate failed or is unavailable each reason is given."""
    answer = headline(results_of(candidate("gone", status="failed"), candidate("away", status="unavailable")))
    assert answer.label == "Nothing to ship"
    assert answer.support == ("gone is failed: its reason", "away is unavailable: its reason")


def test_a_failed_baseline_leaves_no_verdict(results_of: Make, candidate: Make) -> None:
    """Without a baseline nothing is compared."""
    answer = headline(results_of(candidate("quick"), status="failed"))
    assert answer.text == "The baseline base is failed, so nothing could be compared."


@pytest.mark.parametrize(
    ("shape", "expected"),
    [({"batch_size": 1, "threads": 1}, "fail"), ({"batch_size": 8, "threads": 1}, "pass"), (None, "fail")],
)
def test_verdicts_are_a_shape(results_of: Make, candidate: Make, shape: dict[str, int] | None, expected: str) -> None:
    """A rule failed at one shape does not count at another; over all shapes the worst does."""
    results = results_of(candidate("x", verdicts=("fail", "pass")))
    row = results.variants[1]
    assert verdicts.standing(Findings(results), row, shape) == expected


def test_exit_codes_are_explained(results_of: Make, candidate: Make) -> None:
    """The exit code is told with its meaning; that of a failed variant names it."""
    broken = results_of(candidate("gone", status="failed"), exit_code=4)
    assert verdicts.exit_sentence(broken) == "Exit code 4: gone failed"
    assert verdicts.exit_sentence(results_of(candidate("x"))) == "Exit code 0: every rule that was judged passed"
    assert verdicts.exit_sentence(results_of(candidate("x", verdicts=()))) == "Exit code 0: nothing was judged"
    warned = results_of(candidate("x", verdicts=("inconclusive",)))
    assert "only warned about" in verdicts.exit_sentence(warned)


def test_several_shapes_are_summed_up(classifier_run: Path) -> None:
    """Two shapes are each told in the headline of a real run, and the failed variant decides the exit code."""
    results = read_results(classifier_run)
    answer = headline(results)
    assert answer.text.startswith("Ship ort-int8: 4.6x faster")
    assert " at batch 1, 4.6x faster" in answer.text
    assert results.exit_code == 4


def test_rules_are_grouped_as_they_were_written(classifier_run: Path) -> None:
    """Gates come back under their rule: the preset's two, then the config's own for one variant at two shapes."""
    found = list(verdicts.rules(Findings(read_results(classifier_run))))
    assert [len(rule.gates) for rule in found] == [12, 6, 2]
    assert found[2].text == "p50 latency at most 0.6x that of torch-fp32"
    assert verdicts.counts(found[2].gates) == "2 pass"
