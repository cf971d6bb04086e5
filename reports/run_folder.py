"""What a report reads beside results.json: raw samples, the config as it was run, hashes of what was weighed."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bench.results import Results, read_results
from ..bench.sample_table import COLUMNS, TEXTS, read_sample_table, sample_files
from ..optimize.errors import InputError
from ..optimize.plain_data import parse_json

if TYPE_CHECKING:
    import pyarrow as pa


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

    tables = [read_sample_table(path) for path in sample_files(folder)]
    if not tables:
        return pa.table({name: pa.array([], pa.string() if name in TEXTS else pa.float64()) for name in COLUMNS})
    return pa.concat_tables(tables).unify_dictionaries()


def _sources(folder: Path) -> dict[str, str]:
    """Hashes of the model and the data, from the journal's line about the prepared workload."""
    path = folder / "journal.jsonl"
    if not path.is_file():
        return {}
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        if '"prepared"' in line:
            event = _object(path, line)
            names = {"source_sha256": "model", "data_sha256": "data", "calibration_sha256": "calibration data"}
            return {name: str(event[key]) for key, name in names.items() if event.get(key)}
    return {}


def _artifacts(folder: Path) -> dict[str, str]:
    """Hashes of the artifacts' files, from the variants' manifests."""
    found: dict[str, str] = {}
    for path in sorted((folder / "variants").glob("*/manifest.json")):
        hashes = _object(path, path.read_text(encoding="utf-8", errors="replace")).get("sha256")
        for name, digest in hashes.items() if isinstance(hashes, dict) else ():
            found[f"{path.parent.name}/{name}"] = str(digest)
    return found


def _object(path: Path, text: str) -> dict[str, Any]:
    try:
        data = parse_json(text)
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); the run folder is damaged") from error
    if not isinstance(data, dict):
        raise InputError(f"{path} holds no JSON object where one is meant; the run folder is damaged")
    return data
