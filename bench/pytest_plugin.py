"""The pytest plugin: markers with rules, the `weigh` fixture that judges by them, and the harnesses' options.

It is loaded into every pytest session of an environment that has Weighbridge, so it imports nothing heavy before a test asks
for a weighing, and touches no file but the harnesses of this package.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ..optimize.errors import WeighbridgeError
from .pytest_runs import RUNS, hindrance, summary

if TYPE_CHECKING:
    from .pytest_weigh import Weigh

_HERE = Path(__file__).resolve().parent
_MARKER = (
    "weighbridge(baseline=None, max_ratio={}, min_ratio={}, max_drop={}, max_rise={}, max_value={}, min_value={}, "
    "variants=[], conditions={}, slice=None): rules for the variants that the test weighs, metric to limit"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the options and the ini setting."""
    group = parser.getgroup("weighbridge", "weigh model variants")
    group.addoption(
        "--weighbridge-config",
        action="append",
        default=[],
        metavar="FILE",
        help="config that is weighed, for `weigh` and for the harnesses of weighbridge.bench; these take several",
    )
    group.addoption(
        "--weighbridge-out", default="runs", metavar="DIR", help="folder that run folders are made in (default: runs)"
    )
    group.addoption(
        "--weighbridge-inconclusive",
        choices=("fail", "warn"),
        default="fail",
        help="whether an undecided rule fails its test (the default) or is a warning",
    )
    parser.addini("weighbridge_config", "configs that are weighed where no --weighbridge-config is given", type="paths")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARKER)


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect this package's folder as a plain one: pytest would import it as `bench`, a name that is the user's."""
    return pytest.Dir.from_parent(parent, path=path) if _is_ours(path) else None


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Collect a harness under its installed name, whatever the import mode."""
    if not _is_ours(module_path.parent):
        return None
    module: pytest.Module = pytest.Module.from_parent(parent, path=module_path)
    module.obj = importlib.import_module(f"{__package__}.{module_path.stem}")
    return module


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Lift the time limit of pytest-timeout from the harnesses: the first row waits for the whole run, which has its own."""
    if config.pluginmanager.has_plugin("timeout"):
        for item in items:
            if _is_ours(item.path.parent):
                item.add_marker(pytest.mark.timeout(0))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Read the markers of all selected tests, whose rules are judged together on one run.

    Raises:
        UsageError: a marker cannot be meant.
    """
    marked = [item for item in session.items if item.get_closest_marker("weighbridge")]
    if not marked:
        return
    from .pytest_marks import MARKS, mark_of

    try:
        session.config.stash[MARKS] = {item.nodeid: mark_of(item) for item in marked}
    except WeighbridgeError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.fixture
def weigh(request: pytest.FixtureRequest) -> "Weigh":
    """Judge a variant of the configured run, `weigh("name")`, or two functions, `weigh.compare(old, new, max_ratio=1.03)`.

    The test fails with the verdict's sentence where a rule is failed, undecided or not evaluated (docs/pytest.md).
    """
    if request.config.getoption("benchmark_skip", False) and not request.config.getoption("benchmark_only", False):
        pytest.skip("nothing is weighed: --benchmark-skip")
    from .pytest_weigh import Weigh

    return Weigh(request.node, hindrance(request.config))


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Add what concerns the whole session: each run with its folder, environment, notices and exit code."""
    if RUNS in config.stash:
        output_json["weighbridge"] = config.stash[RUNS].facts()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say where each run's folder is, what its verdicts were and what a reader should know of it."""
    if RUNS not in config.stash:
        return
    lines = summary(config.stash[RUNS])
    if lines:
        terminalreporter.section("weighbridge")
        for line in lines:
            terminalreporter.write_line(line)


def _is_ours(folder: Path) -> bool:
    return folder.name == _HERE.name and folder.resolve() == _HERE
