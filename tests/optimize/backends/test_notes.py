"""Honest notes: where no gain is to be expected, the row says so; where it is, the row says nothing."""

import pytest
from weighbridge.optimize.backends import backend, notes
from weighbridge.optimize.recipe import step_from_dict


@pytest.mark.parametrize(
    ("precision", "flags", "words"),
    [
        ("fp16", set(), "no FP16 arithmetic"),
        ("fp16", {"avx512_bf16"}, "BF16 is its half precision"),
        ("fp16", {"amx_fp16"}, ""),
        ("fp16", {"avx512_fp16"}, ""),
        ("fp16", {"asimdhp"}, ""),
        ("bf16", set(), "no BF16 arithmetic"),
        ("bf16", {"avx512_fp16"}, "no BF16 arithmetic"),
        ("bf16", {"avx512_bf16"}, ""),
        ("fp32", set(), ""),
        ("int8", set(), ""),
    ],
)
def test_half_precision_gains_only_where_the_processor_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, precision: str, flags: set[str], words: str
) -> None:
    """A half precision that the processor lacks is told to gain nothing; one that it has is not."""
    monkeypatch.setattr(notes, "cpu_flags", lambda: frozenset(flags))
    note = notes.half_precision_note(precision)
    assert bool(note) == bool(words)
    assert words in note
    assert note.startswith("no gain expected here: " if words else "")


@pytest.mark.parametrize(
    ("precision", "steps", "said"),
    [
        ("int4", (), True),
        ("int8", ({"use": "weight-only", "bits": 8},), True),
        ("int8", ({"use": "dynamic-int8"},), False),
        ("fp32", (), False),
    ],
)
def test_packed_rows_say_on_what_they_gain(precision: str, steps: tuple[dict[str, object], ...], said: bool) -> None:
    """A row with packed weights, built or taken as it is, says that generators gain and batches do not."""
    note = backend("onnxruntime").note(precision, tuple(step_from_dict(step) for step in steps))
    assert ("gains where few rows share a reading of the weights" in note) == said


@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_pruned_and_half_rows_carry_both_notes(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A row that is pruned and in FP16 says of each that nothing is gained; a plain row says nothing."""
    monkeypatch.setattr(notes, "cpu_flags", frozenset)
    pruned = (step_from_dict({"use": "magnitude-pruning", "sparsity": 0.5}),)
    made_by = backend(name)
    assert made_by.note("fp32", ()) == ""
    assert "multiply zeros as fast" in made_by.note("fp32", pruned)
    assert made_by.note("fp16", pruned).count("no gain expected here") == 2


@pytest.mark.parametrize(
    ("steps", "target", "words"),
    [
        ((), "x86", "linear and recurrent layers in 8 bits only"),
        (
            ({"use": "torch-dynamic-int8"},),
            "arm",
            "embeddings, convolutions and attention products stay in floating point",
        ),
        (({"use": "torchao-int8"},), "x86-vnni", "only linear layers are in 8 bits; compiled at the first call"),
        (({"use": "torchao-int8"},), "x86", "no gain expected here: this CPU has no VNNI"),
        (({"use": "torchao-int8", "compile": False},), "x86-vnni", "no gain expected here: uncompiled"),
    ],
)
def test_int8_rows_of_torch_say_what_stays_in_float(
    monkeypatch: pytest.MonkeyPatch, steps: tuple[dict[str, object], ...], target: str, words: str
) -> None:
    """Torch's INT8 tells what it leaves, and torchao's where it gains nothing and when it compiles; FP32 says nothing."""
    monkeypatch.setattr(notes, "int8_target", lambda: target)
    assert words in notes.torch_int8_note("int8", tuple(step_from_dict(step) for step in steps))
    assert notes.torch_int8_note("fp32", ()) == ""
