"""What a report reads beside results.json: raw samples, the config as it was run, hashes of what was weighed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bench.results import Results, read_results
from ..optimize.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = ("replicate", "round", "visit", "call", "phase", "variant", "conditions", "milliseconds")


@dataclass(frozen=True)
class Run:
    """A run folder, read for rendering.

    Attributes:
        folder: where it is.
        results: its results.json.
        config_toml: config.toml as it was run; empty where the folder has none.
        hashes: SHA-256 by what was hashed: the model, the data, each variant's files.
    """

    folder: Path
    results: Results
    config_toml: str
    hashes: dict[str, str]


def read_run(folder: Path) -> Run:
    """Read a run folder; only results.json must be there.

    Raises:
        InputError: results.json is missing or damaged, or a raw file beside it is damaged.
    """
    results = read_results(folder)
    config = folder / "config.toml"
    text = config.read_text(encoding="utf-8", errors="replace") if config.is_file() else ""
    return Run(folder, results, text, {**_sources(folder), **_artifacts(folder)})


def read_samples(folder: Path) -> "pa.Table":
    """Every raw sample of a run, the columns as they were written; no rows where the run has none.

    Raises:
        InputError: a file is cut short or not of a run.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for path in sorted((folder / "samples").glob("replicate-*.parquet")):
        try:
            # ParquetFile and not read_table: that one loads pyarrow.dataset, which loads pandas.
            with pq.ParquetFile(path, read_dictionary=["phase", "variant", "conditions"]) as file:
                tables.append(file.read(columns=list(_COLUMNS)))
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise InputError(f"{path} cannot be read as samples ({error}); the run folder is damaged") from error
    if not tables:
        empty = {
            name: pa.array([], pa.string() if name in ("phase", "variant", "conditions") else pa.float64())
            for name in _COLUMNS
        }
        return pa.table(empty)
    return pa.concat_tables(tables).unify_dictionaries()


def _sources(folder: Path) -> dict[str, str]:
    """Hashes of the model and the data, from the journal's line about the prepared workload."""
    path = folder / "journal.jsonl"
    if not path.is_file():
        return {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if '"prepared"' in line:
            event = _json(path, line)
            names = {"source_sha256": "model", "data_sha256": "data", "calibration_sha256": "calibration data"}
            return {name: event[key] for key, name in names.items() if event.get(key)}
    return {}


def _artifacts(folder: Path) -> dict[str, str]:
    """Hashes of the artifacts' files, from the variants' manifests."""
    found: dict[str, str] = {}
    for path in sorted((folder / "variants").glob("*/manifest.json")):
        manifest = _json(path, path.read_text(encoding="utf-8", errors="replace"))
        found |= {f"{path.parent.name}/{name}": digest for name, digest in manifest.get("sha256", {}).items()}
    return found


def _json(path: Path, text: str) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); the run folder is damaged") from error
    return data
