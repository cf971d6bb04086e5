"""The journal of a run: one JSON object a line, appended and synced as things happen; raw and immutable."""

import json
import os
from pathlib import Path
from typing import Any

from ..optimize.errors import InputError
from ..optimize.plain_data import parse_json

JOURNAL = "journal.jsonl"


class Journal:
    """Appends events to a run's journal."""

    def __init__(self, run_folder: Path, name: str = JOURNAL) -> None:
        self._path = run_folder / name

    def write(self, event: str, **facts: Any) -> None:
        """Append one event and have it on the disk before returning."""
        line = json.dumps({"event": event, **facts}, ensure_ascii=False) + "\n"
        with self._path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())


def read_journal(run_folder: Path, name: str = JOURNAL) -> list[dict[str, Any]]:
    """Read a journal's events in order; a last line cut short by a crash is left out.

    Raises:
        InputError: there is no journal, or a line other than the last is not JSON.
    """
    path = run_folder / name
    try:
        lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    except OSError as error:
        raise InputError(
            f"{run_folder} is not a run folder: its {name} cannot be read ({error}). "
            "Give a folder that `weighbridge run` wrote."
        ) from error
    events: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            events.append(parse_json(line.decode("utf-8")))
        except ValueError as error:
            if number < len(lines):
                raise InputError(f"{path}: line {number} is not JSON ({error}); the run folder is damaged") from error
    return events


def mend_journal(run_folder: Path, name: str = JOURNAL) -> None:
    """Take out a last line that was cut short, so that the next one does not join it."""
    path = run_folder / name
    whole = path.read_bytes().rfind(b"\n") + 1
    with path.open("rb+") as stream:
        stream.truncate(whole)
