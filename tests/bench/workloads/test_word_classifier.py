"""Words as numbers: the tokenizer of the small text networks."""

from pathlib import Path

import numpy as np
from weighbridge.bench.workloads.encode import load_tokenizer
from weighbridge.bench.workloads.word_classifier import word_tokenizer


def test_the_commonest_words_are_numbered_and_padded_on_the_left(tmp_path: Path) -> None:
    """Of four numbers two are words: case and punctuation fall away, rare words are unknown, and a saved tokenizer is the same."""
    word_tokenizer(["The cat, the dog!", "the CAT; a 'bird'?"], vocabulary=4).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.get_vocab() == {"[PAD]": 0, "[UNK]": 1, "the": 2, "cat": 3}
    texts = ["THE cat.", "a cat's dog", "", "?!", "the the the the the the cat"]
    encoded = tokenizer(texts, padding="max_length", truncation=True, max_length=5, return_tensors="np")
    wanted = [[0, 0, 0, 2, 3], [0, 1, 3, 1, 1], [0] * 5, [0] * 5, [2] * 5]
    np.testing.assert_array_equal(encoded["input_ids"], wanted)
