"""Machines and artifacts in words: the environment of a run, the weights and operators of a variant."""

from collections.abc import Iterator, Mapping
from typing import Any

from ..bench.results import VariantRow
from . import words

_OPERATORS = 5
_FACTS = {
    "date": "Date",
    "commit": "Commit",
    "cpu": "Processor",
    "cores": "Cores",
    "instruction_sets": "Instruction sets",
    "memory_bytes": "Memory",
    "gpu": "GPU",
    "gpu_driver": "GPU driver",
    "governor": "Frequency governor",
    "load_average": "Load average before",
    "system": "System",
    "architecture": "Architecture",
    "python": "Python",
}


def machine_facts(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The environment as pairs of words, in a reader's order; what is empty is left out."""
    for key, name in _FACTS.items():
        value = environment.get(key)
        if value in (None, "", [], ()):
            continue
        if key == "memory_bytes":
            value = words.megabytes(float(str(value)))
        yield name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def weights(row: VariantRow) -> str:
    """Bytes of a variant's weights by data type: `int8 22.3 MB, fp32 0.600 MB`."""
    found = (row.audit or {}).get("weight_bytes", {})
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return ", ".join(f"{dtype} {words.megabytes(size)}" for dtype, size in ordered)


def operators(row: VariantRow) -> str:
    """A variant's commonest operators: `MatMul 73, Add 61`."""
    found = sorted((row.audit or {}).get("nodes", {}).items(), key=lambda item: -item[1])
    more = f", and {len(found) - _OPERATORS} more types" if len(found) > _OPERATORS else ""
    return ", ".join(f"{name} {count}" for name, count in found[:_OPERATORS]) + more
