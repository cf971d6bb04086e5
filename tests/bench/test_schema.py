"""The published JSON Schema of results.json."""

import json
from typing import Any

import pytest
from weighbridge.bench.results import Comparison, Measurement, Results, VariantRow
from weighbridge.bench.schema import SCHEMA_FILE, schema, validate
from weighbridge.optimize.errors import InputError


def data() -> dict[str, Any]:
    """Small results as plain data, as they come back from JSON."""
    results = Results(
        environment={"commit": "abc", "date": "2026-11-24"},
        config={},
        variants=(VariantRow("base", "torch", "fp32", "ok", baseline=True, audit={"ok": True}),),
        measurements=(Measurement("base", "latency_p99", "ms", {"batch_size": 1}, None, note="n too small"),),
        comparisons=(Comparison("x", "tpot", {}, "ratio", 0.5, 0.4, 0.6, 0.99, 4, (0.5, 0.5)),),
    )
    plain: dict[str, Any] = json.loads(json.dumps(results.to_dict()))
    return plain


def test_the_published_file_is_generated() -> None:
    """The published schema is the one that the dataclasses give; `python -m weighbridge.bench.schema` writes it."""
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == schema()


def test_what_is_written_is_valid() -> None:
    """Results as the dataclasses write them follow the schema, absent values included."""
    validate(data())


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("schema_version",), 2, "schema_version"),
        (("environment",), {"commit": "abc"}, "date"),
        (("variants", 0, "status"), "fine", "status"),
        (("measurements", 0, "conditions"), {"batchsize": 1}, "batchsize"),
        (("measurements", 0, "value"), "1.0", "value"),
        (("comparisons", 0, "kind"), "value", "kind"),
        (("comparisons", 0, "extra"), 1, "extra"),
    ],
)
def test_what_is_not_valid_is_named(path: tuple[Any, ...], value: Any, words: str) -> None:
    """A wrong version, a missing date, an unknown status, condition, kind or key, a wrong type: each is named."""
    wrong = data()
    place = wrong
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(InputError, match=f"not a results.json of schema version 1: .*{words}"):
        validate(wrong)


def test_a_missing_key_is_named() -> None:
    """Every key is always written, so a missing one is an error."""
    wrong = data()
    del wrong["gates"]
    with pytest.raises(InputError, match="'gates' is a required property"):
        validate(wrong)
