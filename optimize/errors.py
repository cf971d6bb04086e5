"""The errors that Weighbridge raises on purpose.

Every text says what was given, what is allowed and what to do next; the command line prints it without a traceback.

    WeighbridgeError                exit 2
    ├── ConfigError                 a config, rule or option that cannot be meant
    ├── InputError                  a model, data or run file that cannot be used
    ├── NotAvailableYetError        a part of the contract that a later release builds
    ├── UnavailableError            this machine cannot run it (the variant's row says why)
    ├── BuildError                  a variant could not be built or is not what its name says
    └── WorkerError                 a child process crashed, hung or answered with an error
"""

import difflib
from collections.abc import Iterable


class WeighbridgeError(Exception):
    """Base of every error that a user can cause or repair."""

    exit_code = 2


class ConfigError(WeighbridgeError):
    """A config, rule or command-line option that cannot be meant."""


class InputError(WeighbridgeError):
    """A model, data or run file that is missing, damaged or of the wrong kind."""


class NotAvailableYetError(WeighbridgeError):
    """A part of the contract that this release does not build yet."""


class UnavailableError(WeighbridgeError):
    """Something that this machine cannot run; the text holds the reason and the remedy."""

    exit_code = 4


class BuildError(WeighbridgeError):
    """A variant that could not be built, or whose checks say that it is broken."""

    exit_code = 4


class WorkerError(WeighbridgeError):
    """A child process that crashed, hung or answered with an error."""

    exit_code = 4


def one_of(what: str, given: str, allowed: Iterable[str]) -> str:
    """Return the sentence for a name that is not among the allowed ones, naming the nearest.

    >>> one_of("metric", "latency_p5", ["latency_p50", "accuracy"])
    "unknown metric 'latency_p5'; did you mean 'latency_p50'? Allowed: accuracy, latency_p50"
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return f"unknown {what} '{given}'{hint} Allowed: {', '.join(names) or 'none'}"


def first_line(error: BaseException) -> str:
    r"""Return the kind of a foreign error and the first line of its text, at most 300 characters.

    >>> first_line(ValueError("no such layer\nand much more"))
    'ValueError: no such layer'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
