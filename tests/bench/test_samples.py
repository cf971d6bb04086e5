"""How calls are recorded and sorted: which phase and shape each stands under."""

from weighbridge.bench.metrics import END_TO_END
from weighbridge.bench.samples import Recorder, Replicate, key_of

SHAPE = {"batch_size": 1, "threads": 1}
KEY, RAW_KEY = key_of(SHAPE), key_of({**SHAPE, END_TO_END: 1})


def test_calls_from_raw_inputs_stand_apart_from_the_models_own() -> None:
    """They are recorded under the model's shape and a phase of their own, and sorted under a shape of their own."""
    recorder = Recorder(1)
    for key, ms in ((KEY, 1.0), (RAW_KEY, 3.0)):
        recorder.add([[9 * ms], [5 * ms]], ["first", "warmup"], variant="v", shape=key, round_=0, visit=0)
        recorder.add([[2 * ms], [ms]], ["settle", "timed"], variant="v", shape=key, round_=1, visit=1)
    assert set(recorder.columns["conditions"]) == {KEY}
    assert recorder.columns["phase"] == [
        *("first", "warmup", "settle", "timed"),
        *("warmup", "warmup", "settle", "end_to_end"),
    ]
    replicate = Replicate.of(recorder.columns)
    assert {key: calls.tolist() for key, calls in replicate.timed.items()} == {
        ("v", KEY): [[1.0]],
        ("v", RAW_KEY): [[3.0]],
    }
    assert replicate.first == {("v", KEY): 9.0}
    assert {each: calls.tolist() for each, calls in replicate.visits("v", RAW_KEY).items()} == {1: [[3.0]]}
