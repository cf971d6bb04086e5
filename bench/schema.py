"""The published JSON Schema of results.json (results.schema.json), generated from the dataclasses of results.py.

`python -m weighbridge.bench.schema` prints it; a test holds the published file to what this prints.
"""

import json
import sys
from pathlib import Path
from typing import Any

from ..optimize.errors import InputError
from .metrics import SHAPE_KEYS
from .results import SCHEMA_VERSION, Results

SCHEMA_FILE = Path(__file__).with_name("results.schema.json")

_CONDITIONS = {
    "description": "The shape that was measured; a flat map.",
    "type": "object",
    "propertyNames": {"enum": list(SHAPE_KEYS)},
    "additionalProperties": {"type": ["number", "string"]},
}


def schema() -> dict[str, Any]:
    """The schema as plain data, generated anew."""
    from pydantic import TypeAdapter

    found = TypeAdapter(Results).json_schema(mode="serialization")
    written = Results({}, {}, ()).to_dict()
    found["properties"] = {name: part for name, part in found["properties"].items() if name in written}
    found["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    found["properties"]["environment"]["required"] = ["commit", "date"]
    sections: list[dict[str, Any]] = [found, *found["$defs"].values()]
    for section in sections:
        section |= {"additionalProperties": False, "required": list(section["properties"])}
        for name, part in section["properties"].items():
            for noise in ("default", "title"):
                part.pop(noise, None)
            if name == "conditions":
                section["properties"][name] = _CONDITIONS
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Weighbridge results",
        "description": "What a run found: results.json of a run folder.",
        **{key: value for key, value in found.items() if key not in ("title", "description")},
    }


def validate(data: Any) -> None:
    """Check plain data, as read from a results.json, against the published schema.

    Raises:
        InputError: it does not follow the schema; the text names the first place that does not, and why.
    """
    import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own

    published = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(published).iter_errors(data))
    if error is not None:
        raise InputError(f"not a results.json of schema version {SCHEMA_VERSION}: {error.json_path}: {error.message}")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(schema(), indent=2, ensure_ascii=False) + "\n")
