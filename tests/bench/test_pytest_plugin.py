"""The plugin: markers and `weigh` as green and red tests, in sessions of their own over runs of known truth."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.dataset  # noqa: F401 - what an inner session imports first is forgotten after it; this cannot be imported twice
import pytest
import weighbridge.bench.pytest_weigh  # noqa: F401 - the same
from weighbridge.bench.config import Config
from weighbridge.bench.running import Options

pytest_plugins = ["pytester"]

Inner = Callable[..., pytest.RunResult]
Write = Callable[..., Path]
Runs = list[tuple[Config, Options]]

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "onnxruntime", "transformers", "pandas", "numpy", "pydantic", "pyarrow", "rich")


def one_test(pytester: pytest.Pytester, marker: str, body: str = 'weigh("fast")') -> None:
    """Write a test file with one test."""
    pytester.makepyfile(
        f"""
        import pytest

        {marker and f"@pytest.mark.weighbridge({marker})"}
        def test_variant(weigh):
            {body}
        """
    )


def test_a_kept_rule_is_green_and_a_broken_one_red(
    pytester: pytest.Pytester, inner_pytest: Inner, write_project: Write, written_runs: Runs
) -> None:
    """1 ms against 2 ms passes at most 0.6, 2.2 ms fails at most 1.03 with the sentence alone, on one run of both rules."""
    write_project()
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.weighbridge(baseline="base", max_ratio={"latency_p50": 0.6}, max_drop={"accuracy": 0.05})
        def test_fast(weigh):
            assert [gate.verdict for gate in weigh("fast")] == ["pass", "pass"]

        @pytest.mark.weighbridge(max_ratio={"latency_p50": 1.03})
        def test_slow(weigh):
            weigh("slow")
        """
    )
    result = inner_pytest("--junitxml=junit.xml")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "weighbridge: written, not weighed",
            "slow: latency_p50 1.1x [[]1.1x, 1.1x[]] of base, limit at most 1.03x: fail (4 replicates, batch_size 1)",
            "toy: 4 pass, 2 fail; run folder *runs*-toy",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    assert "test_slow>" not in result.stdout.str()
    ((config, _),) = written_runs
    assert [(rule.metric, rule.compare, rule.max, rule.min) for rule in config.gates.rules] == [
        ("latency_p50", "ratio", 0.6, None),
        ("accuracy", "difference", None, -0.05),
        ("latency_p50", "ratio", 1.03, None),
    ]
    report = (pytester.path / "junit.xml").read_text(encoding="utf-8")
    assert "fast: latency_p50 0.5x" in report


def test_a_test_is_not_judged_by_the_rules_of_another(
    pytester: pytest.Pytester, inner_pytest: Inner, write_project: Write, written_runs: Runs
) -> None:
    """`slow` breaks the speed rule of one test, and the other, whose marker asks for accuracy, passes it."""
    write_project()
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.weighbridge(max_ratio={"latency_p50": 0.6}, variants=["fast"])
        def test_speed(weigh):
            weigh("fast")

        @pytest.mark.weighbridge(max_drop={"accuracy": 0.05})
        @pytest.mark.weighbridge(min_value={"accuracy": 0.5})
        def test_quality(weigh):
            assert {gate.metric for gate in weigh("slow")} == {"accuracy"}
        """
    )
    inner_pytest().assert_outcomes(passed=2)
    assert len(written_runs) == 1


def test_the_rules_of_the_config_hold_for_every_test(
    pytester: pytest.Pytester, inner_pytest: Inner, write_project: Write, written_runs: Runs
) -> None:
    """A preset of the config fails `slow` in a test whose own marker it keeps, and judges one that has no marker."""
    write_project(gates={"preset": "no-regression"}, models={"slow": {"latency_ms": 2.2, "error_rate": 0.3}})
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.weighbridge(max_ratio={"latency_p50": 1.2})
        def test_marked(weigh):
            weigh("slow")

        def test_bare(weigh):
            weigh("slow")
        """
    )
    result = inner_pytest("-rf")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["slow: latency_p50 1.1x*limit at most 1.03x: fail*", "slow: accuracy -30.00 points*"])
    assert "limit at most 1.2x" not in result.stdout.str()
    assert len(written_runs) == 1


@pytest.mark.usefixtures("written_runs")
def test_an_undecided_rule_is_red_unless_it_is_to_warn(
    pytester: pytest.Pytester, inner_pytest: Inner, write_project: Write
) -> None:
    """An accuracy rule that 300 examples cannot decide fails with what it would take; with the option it is a warning."""
    write_project()
    one_test(pytester, 'max_drop={"accuracy": 0.001}')
    result = inner_pytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["fast: accuracy*: inconclusive (300 examples). It would take about*"])
    result = inner_pytest("--weighbridge-inconclusive=warn")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*WeighbridgeWarning: fast: accuracy*: inconclusive*"])


@pytest.mark.usefixtures("written_runs")
def test_a_gain_too_good_to_be_true_is_green_with_a_warning(
    pytester: pytest.Pytester, inner_pytest: Inner, write_project: Write
) -> None:
    """A variant 100 times as fast passes its rule and is called suspicious."""
    write_project(models={"empty": {"latency_ms": 0.02}})
    one_test(pytester, 'max_ratio={"latency_p50": 0.6}', 'weigh("empty")')
    result = inner_pytest()
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*WeighbridgeWarning: suspicious: empty: latency_p50 0.01x*"])


@pytest.mark.usefixtures("written_runs")
@pytest.mark.parametrize(
    ("variant", "sentence"),
    [
        ("broken", "broken was not evaluated: broken is failed (weights of another model)"),
        ("rt", "rt was not evaluated: rt is unavailable (tensorrt is not installed)"),
        ("fst", "unknown variant 'fst'; did you mean 'fast'? Allowed: base, broken, fast, rt, slow"),
        ("base", "base is the baseline, which the others are judged against; weigh a candidate"),
    ],
)
def test_what_cannot_be_judged_is_red(
    variant: str, sentence: str, pytester: pytest.Pytester, inner_pytest: Inner, write_project: Write
) -> None:
    """A failed, an unavailable or an unknown variant, and the baseline, fail the test with the reason."""
    write_project(
        models={"broken": {"fail_at_open": "weights of another model"}},
        variants=[{"name": "rt", "backend": "tensorrt"}],
    )
    one_test(pytester, 'max_ratio={"latency_p50": 0.6}', f'weigh("{variant}")')
    result = inner_pytest()
    result.assert_outcomes(failed=1)
    assert sentence in result.stdout.str()


@pytest.mark.parametrize(
    ("marker", "sentence"),
    [
        ("", "no rule judges fast: give the test a marker with a limit"),
        ('baseline="slow", max_ratio={"latency_p50": 1}', "the marker's baseline is slow, the run's is base"),
        ('baseline="slwo", max_ratio={"latency_p50": 1}', "unknown variant 'slwo'; did you mean 'slow'?"),
        (
            'max_ratio={"latency_p50": 1}, variants=["slow"]',
            "the marker's rules are for slow; add fast to its variants",
        ),
        ('max_ratio={"latency_p99": 1}', "fast: latency_p99 was not evaluated (batch_size 1): n too small"),
        ('max_ratio={"perplexity": 1}', "fast: perplexity (ratio) was not evaluated: this run did not measure it"),
        ('max_ratio={"latency_p50": 1}, conditions={"batch_size": 8}', "was not evaluated at batch_size 8"),
    ],
)
def test_a_test_that_judges_nothing_is_red(
    marker: str,
    sentence: str,
    pytester: pytest.Pytester,
    inner_pytest: Inner,
    write_project: Write,
    written_runs: Runs,
) -> None:
    """No rule, another baseline and unknown names are said before anything is run; too few calls and what was not measured after."""
    write_project()
    one_test(pytester, marker)
    result = inner_pytest()
    result.assert_outcomes(failed=1)
    assert sentence in result.stdout.str()
    assert len(written_runs) == ("not evaluated" in sentence)


@pytest.mark.parametrize(
    ("marker", "sentence"),
    [
        ('{"latency_p50": 1}', "it takes named arguments only"),
        ('max_ration={"latency_p50": 1}', "unknown argument 'max_ration'; did you mean 'max_ratio'?"),
        ("max_ratio=0.6", "max_ratio must give a number for each metric"),
        ('max_ratio={"latency_p50": "0.6"}', "max_ratio must give a number for each metric"),
        ('max_ratio={"latncy_p50": 0.6}', "max_ratio: unknown metric 'latncy_p50'; did you mean 'latency_p50'?"),
        ('max_drop={"log_loss": 0.1}', "max_drop: of log_loss lower is better; give max_rise"),
        ('max_rise={"accuracy": 0.1}', "max_rise: of accuracy higher is better; give max_drop"),
        ('max_drop={"accuracy": -0.1}', "max_drop: accuracy is given -0.1; it is the size of a change for the worse"),
        (
            'max_ratio={"latency_p50": 1}, conditions={"batch": 1}',
            "unknown condition 'batch'; did you mean 'batch_size'?",
        ),
        ('max_ratio={"latency_p50": 1}, slice="language"', "a slice is of the examples, so only quality has one"),
        ('max_ratio={"latency_p50": 1}, variants="fast"', "variants must be a list"),
    ],
)
def test_a_marker_that_cannot_be_meant_ends_the_session(
    marker: str, sentence: str, pytester: pytest.Pytester, inner_pytest: Inner
) -> None:
    """Wrong arguments, metrics and limits are usage errors that name the test, before anything is run."""
    one_test(pytester, marker)
    result = inner_pytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert ":test_variant: marker weighbridge: " in result.stderr.str()
    assert sentence in result.stderr.str()


def test_a_marker_without_the_fixture_ends_the_session(pytester: pytest.Pytester, inner_pytest: Inner) -> None:
    """A marked test that does not ask for `weigh` would pass without having judged anything: a usage error."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.weighbridge(max_ratio={"latency_p50": 0.6})
        def test_forgotten():
            pass
        """
    )
    result = inner_pytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "the marker weighbridge judges nothing by itself; take the fixture `weigh`" in result.stderr.str()


def test_where_the_config_comes_from(
    pytester: pytest.Pytester, inner_pytest: Inner, write_project: Write, written_runs: Runs
) -> None:
    """None is red with the way out; the ini setting is taken, and the option before it; of two none is chosen."""
    one_test(pytester, 'max_ratio={"latency_p50": 0.6}')
    result = inner_pytest()
    result.assert_outcomes(failed=1)
    assert "no config: " in result.stdout.str()
    write_project(file="first.toml")
    write_project(file="second.toml", measure={"batch_sizes": [4]})
    pytester.makeini("[pytest]\nweighbridge_config = first.toml\n")
    inner_pytest().assert_outcomes(passed=1)
    inner_pytest("--weighbridge-config=second.toml", "--weighbridge-out=elsewhere").assert_outcomes(passed=1)
    assert [config.measure.batch_sizes for config, _ in written_runs] == [(1,), (4,)]
    (folder,) = (pytester.path / "elsewhere").iterdir()
    assert (folder / "samples" / "replicate-004.parquet").is_file()
    result = inner_pytest("--weighbridge-config=first.toml", "--weighbridge-config=second.toml")
    result.assert_outcomes(failed=1)
    assert "`weigh` judges the variants of one config; given " in result.stdout.str()


def test_a_run_that_failed_is_not_tried_again(
    pytester: pytest.Pytester, inner_pytest: Inner, write_project: Write, written_runs: Runs
) -> None:
    """Where the model is missing, each test fails with the sentence and the run is started once."""
    write_project()
    (pytester.path / "base.fake.json").unlink()
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("name", ["fast", "slow"])
        @pytest.mark.weighbridge(max_ratio={"latency_p50": 1.2})
        def test_variant(weigh, name):
            weigh(name)
        """
    )
    result = inner_pytest()
    result.assert_outcomes(failed=2)
    assert result.stdout.str().count("base.fake.json cannot be read") >= 2
    assert len(written_runs) == 1


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [("--benchmark-disable", "run it without --benchmark-disable"), ("", "run it without -n")],
)
def test_a_session_that_cannot_measure_judges_nothing_green(
    argument: str,
    sentence: str,
    pytester: pytest.Pytester,
    inner_pytest: Inner,
    write_project: Write,
    written_runs: Runs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With benchmarks disabled, and in a worker of pytest-xdist, a variant and two functions are red, and nothing is run."""
    write_project()
    if not argument:
        monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.weighbridge(max_ratio={"latency_p50": 0.6})
        def test_variant(weigh):
            weigh("fast")

        def test_functions(weigh):
            weigh.compare(list, dict)
        """
    )
    result = inner_pytest(*filter(None, [argument]))
    result.assert_outcomes(failed=2)
    assert result.stdout.str().count(sentence) >= 2
    assert not written_runs


def test_under_xdist_a_gate_is_red(pytester: pytest.Pytester, inner_pytest: Inner, write_project: Write) -> None:
    """With -n the worker's test fails with the reason."""
    write_project()
    one_test(pytester, 'max_ratio={"latency_p50": 0.6}')
    result = inner_pytest("-n1")
    result.assert_outcomes(failed=1)
    assert "pytest-xdist runs tests beside each other" in result.stdout.str()


def test_benchmark_skip_skips(
    pytester: pytest.Pytester, inner_pytest: Inner, write_project: Write, written_runs: Runs
) -> None:
    """With --benchmark-skip the test is skipped and nothing is run."""
    write_project()
    one_test(pytester, 'max_ratio={"latency_p50": 0.6}')
    inner_pytest("--benchmark-skip").assert_outcomes(skipped=1)
    assert not written_runs


@pytest.mark.parametrize(
    ("new", "outcome", "sentence"),
    [
        ("work(1_000_000)", {"passed": 1}, ""),
        ("work(1_500_000)", {"failed": 1}, "new: latency_p50 1.5x [1.5x, 1.5x] of old, limit at most 1.03x: fail"),
        (
            "work(10_000)",
            {"passed": 1, "warnings": 1},
            "WeighbridgeWarning: suspicious: new: latency_p50 0.01x [0.01x, 0.01x] of old",
        ),
        ("int('one')", {"failed": 1}, "new failed while it was weighed: ValueError: invalid literal for int()"),
    ],
)
def test_two_functions_are_compared(
    new: str, outcome: dict[str, int], sentence: str, pytester: pytest.Pytester, inner_pytest: Inner
) -> None:
    """On a known clock equal functions are green, 1.5 times the time is red, what raises too, and a hundredth is green with a warning."""
    pytester.makepyfile(
        f"""
        NOW = [0]

        def work(nanoseconds):
            NOW[0] += nanoseconds

        def old():
            work(1_000_000)

        def new():
            {new}

        def test_my_function(weigh):
            weigh.compare(old, new, max_ratio=1.03, max_seconds=1.0, clock_ns=lambda: NOW[0])
        """
    )
    result = inner_pytest()
    result.assert_outcomes(**outcome)
    assert sentence in result.stdout.str()


def test_the_plugin_is_light_and_leaves_a_projects_own_bench_alone(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a repository with a `bench` of its own its tests run, and a session that weighs nothing imports nothing heavy."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makepyfile(
        **{
            "bench/__init__": "OWN = True",
            "bench/test_within": "from bench import OWN\n\ndef test_within():\n    assert OWN",
            "test_light": f"""
                import sys

                import bench

                def test_own():
                    assert bench.OWN

                def test_light():
                    assert not [name for name in {HEAVY!r} if name in sys.modules]
            """,
        }
    )
    plugins = ("-p", "weighbridge.bench.pytest_plugin", "-p", "pytest_benchmark.plugin")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # other plugins import what they like
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "--strict-markers"], capture_output=True, text=True, check=False
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_the_marker_and_the_options_are_described(inner_pytest: Inner) -> None:
    """`pytest --markers` and `pytest --help` tell of them."""
    assert "@pytest.mark.weighbridge(baseline=None, max_ratio={}" in inner_pytest("--markers").stdout.str()
    options = inner_pytest("--help").stdout.str()
    assert all(name in options for name in ("--weighbridge-config", "--weighbridge-out", "--weighbridge-inconclusive"))


def test_the_plugin_works_without_pytest_benchmark(
    pytester: pytest.Pytester, inner_pytest: Inner, write_project: Write, written_runs: Runs
) -> None:
    """A session that has pytest-benchmark switched off judges a variant all the same."""
    write_project()
    one_test(pytester, 'max_ratio={"latency_p50": 0.6}')
    inner_pytest("-p", "no:benchmark").assert_outcomes(passed=1)
    assert len(written_runs) == 1


def test_the_page_says_what_is(pytester: pytest.Pytester, inner_pytest: Inner) -> None:
    """The Python of docs/pytest.md is collected and its marker can be meant; every option that the page names exists."""
    page = (ROOT / "docs" / "pytest.md").read_text(encoding="utf-8")
    pytester.makepyfile(re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)[0])
    result = inner_pytest("--collect-only")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*2 tests collected*"])
    options = inner_pytest("--help").stdout.str()
    named = set(re.findall(r"--weighbridge-[a-z-]+", page))
    assert len(named) == 3
    assert all(name in options for name in named)
    table = page.split("| argument of the marker")[1].split("\n\n")[0]
    assert set(re.findall(r"`([a-z_]+)`[,| ]", table)) >= {
        "baseline",
        "conditions",
        "max_drop",
        "max_rise",
        "slice",
        "variants",
    }
