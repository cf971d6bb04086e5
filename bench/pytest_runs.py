"""The runs of a pytest session: each config is weighed once, at the first test that needs it, and what came of it is kept.

Importing it loads nothing heavy: the plugin, which every pytest session loads, imports it.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ..optimize.errors import WeighbridgeError

if TYPE_CHECKING:
    from .child import Progress
    from .config import Config
    from .results import Results
    from .samples import Replicate


@dataclass(frozen=True)
class Asked:
    """A run that is asked for: a complete config, the folder its paths are meant against, and whether a fast look will do."""

    config: "Config"
    base: Path = Path()
    quick: bool = False

    @property
    def key(self) -> str:
        """One text for equal runs."""
        return f"{self.config.model_dump_json()} {self.base.absolute()} {self.quick}"


@dataclass(frozen=True)
class Done:
    """A finished run: its results, and its raw samples."""

    results: "Results"

    @cached_property
    def pooled(self) -> "Replicate":
        """The timed calls of all replicates together."""
        from .samples import Replicate, read_replicates

        return Replicate.pooled(read_replicates(self.results.folder))


class Runs:
    """Weighs each config once; later tests get the same run, or the same error."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._found: dict[str, Done | WeighbridgeError] = {}

    def of(self, asked: Asked) -> Done:
        """The run that is asked for, weighed now unless it was before.

        Raises:
            WeighbridgeError: its config or files cannot be meant.
        """
        if asked.key not in self._found:
            try:
                self._found[asked.key] = self._weighed(asked)
            except WeighbridgeError as error:
                self._found[asked.key] = error
        found = self._found[asked.key]
        if isinstance(found, WeighbridgeError):
            raise found
        return found

    @property
    def done(self) -> list["Results"]:
        """The results of every finished run, in order."""
        return [found.results for found in self._found.values() if isinstance(found, Done)]

    def facts(self) -> list[dict[str, Any]]:
        """Plain data of each finished run, for pytest-benchmark's JSON."""
        return [
            {
                "workload": results.config["workload"]["name"],
                "run": str(results.folder),
                "exit_code": results.exit_code,
                "gates": [asdict(gate) for gate in results.gates],
                "notices": list(results.notices),
                "environment": results.environment,
            }
            for results in self.done
        ]

    def _weighed(self, asked: Asked) -> Done:
        from .running import Options, dated_folder, run

        out = self._config.invocation_params.dir / self._config.getoption("weighbridge_out")
        options = Options(
            out=dated_folder(out, asked.config.workload.name),
            base=asked.base,
            quick=asked.quick,
            inconclusive=self._config.getoption("weighbridge_inconclusive"),
        )
        return Done(run(asked.config, options, _Terminal(self._config)))


RUNS = pytest.StashKey[Runs]()


def runs_of(config: pytest.Config) -> Runs:
    """The runs of this session."""
    return config.stash.setdefault(RUNS, Runs(config))


def config_files(config: pytest.Config) -> list[Path]:
    """The configs of --weighbridge-config, or else those of the ini setting."""
    here = config.invocation_params.dir
    return [here / name for name in config.getoption("weighbridge_config")] or list(config.getini("weighbridge_config"))


def asked_of(path: Path) -> Asked:
    """The run that a config file asks for.

    Raises:
        ConfigError: the file is missing or no valid config.
    """
    from .config import load_config
    from .running import Options, complete

    return Asked(complete(load_config(path), Options()), path.parent)


def hindrance(config: pytest.Config) -> str:
    """Why nothing can be judged in this session; empty where all is well."""
    if "PYTEST_XDIST_WORKER" in os.environ or config.getoption("dist", "no") != "no":
        return "pytest-xdist runs tests beside each other, which would be measured too: run it without -n"
    if config.getoption("benchmark_disable", False) and not config.getoption("benchmark_enable", False):
        return "benchmarks are disabled: run it without --benchmark-disable"
    return ""


def summary(runs: Runs) -> list[str]:
    """Lines on each finished run for the end of the session: its folder, its verdicts, its notices."""
    from .cli.console import plain

    lines = []
    for results in runs.done:
        counts = Counter(gate.verdict.replace("_", " ") for gate in results.gates)
        words = ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "nothing was judged"
        lines.append(f"{results.config['workload']['name']}: {words}; run folder {results.folder}")
        lines += [f"  {notice}" for notice in results.notices if counts or not notice.startswith("Nothing was judged")]
    return [plain(line) for line in lines]


@dataclass(frozen=True)
class _Terminal:
    """Tells of a run's stages on pytest's terminal, past the capturing of output; -q silences it."""

    config: pytest.Config

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator["Progress"]:
        """Print the name of a stage that begins."""
        from .reporter import ignore

        self.tell(name)
        yield ignore

    def tell(self, sentence: str) -> None:
        """Print a sentence on a line of its own."""
        from .cli.console import plain

        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        capture = self.config.pluginmanager.get_plugin("capturemanager")
        if terminal is None or self.config.get_verbosity() < 0:
            return
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            terminal.ensure_newline()
            terminal.write_line(f"weighbridge: {plain(sentence)}")
