"""Classifiers of words: the commonest words of the training texts are numbered, and a small network is trained on the numbers.

Padding is number 0 and stands on the left, as Keras' pad_sequences puts it. Every network here must answer alike however much
of it there is: its embedding is zero, and what reads it makes nothing of zeros.
"""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...optimize.training import TrainingConfig, fit
from ..child import Progress
from .builtin import Made, Request
from .corpus import Corpus
from .trained import trained
from .trained_network import keep_weights, made_of

PAD, UNKNOWN = "[PAD]", "[UNK]"
PAD_ID = 0


@dataclass(frozen=True)
class WordClassifier:
    """A network that classifies words, and how it is trained.

    Attributes:
        name: the workload's.
        network: what makes the untrained module; it is called with `arguments`.
        arguments: the sizes of the network, by name.
        vocabulary: how many words are numbered, padding and the unknown word among them.
        length: words of a text that are trained on; the rest of a longer one is cut.
        training: how it is fitted.
    """

    name: str
    network: Callable[..., Any]
    arguments: Mapping[str, int]
    vocabulary: int
    length: int
    training: TrainingConfig

    def made(self, request: Request, corpus: Corpus, progress: Progress) -> Made:
        """Train on the corpus (or take the trained weights from the cache)."""
        sources = [inspect.getsource(sys.modules[__name__]), self.vocabulary, self.length, str(self.training)]
        facts = [*sources, dict(self.arguments), request.seed, corpus.sha256]
        code = sys.modules[self.network.__module__]
        folder = trained(self.name, code, facts, lambda to: self._train(to, corpus, request.seed, progress))
        return made_of(
            self.network, self.arguments, "text-classification", folder, corpus, request.seed, tokenizer=str(folder)
        )

    def _train(self, folder: Path, corpus: Corpus, seed: int, progress: Progress) -> None:
        """Padding changes nothing, so that none is trained on beyond the longest text."""
        import torch

        tokenizer = word_tokenizer(corpus.texts, self.vocabulary)
        tokenizer.save_pretrained(folder)
        encoded = tokenizer(
            list(corpus.texts), padding="longest", truncation=True, max_length=self.length, return_tensors="np"
        )
        torch.manual_seed(seed)
        module = self.network(**self.arguments)
        fit(module, {"input_ids": encoded["input_ids"]}, corpus.targets, replace(self.training, seed=seed), progress)
        keep_weights(module, folder)


def word_tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    """A tokenizer that lower-cases, leaves punctuation out and numbers the commonest words; it pads on the left."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r"\W+"), "removed")
    trainer = trainers.WordLevelTrainer(vocab_size=vocabulary, special_tokens=[PAD, UNKNOWN], show_progress=False)
    words.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token=PAD, unk_token=UNKNOWN, padding_side="left")
