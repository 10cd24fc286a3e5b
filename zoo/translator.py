"""`translate`: texts to texts, by a run's model or a public translator."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from zoo.data.text import Tokenizer, open_tokenizer
from zoo.decoding import Search, generate
from zoo.loading import load
from zoo.types import InputError
from zoo.weights.run import is_run

EXTRA = 50
"""How many tokens a translation may have more than its source's bucket (arXiv 1706.03762)."""
_SHORTEST = 16


def translate(path: str | Path, texts: Sequence[str], **options: Any) -> list[str]:
    """Translations of texts, by the model in a folder.

    Args:
        path: A run's folder, or one of a Hugging Face Marian translator, such as
            Helsinki-NLP/opus-mt-en-de: weights, config.json, source.spm, target.spm, vocab.json.
        texts: In the source's language; long ones are best cut into sentences.
        **options: `num_beams`, `length_penalty`, `batch_size` of `Translator.__call__`.

    Raises:
        InputError: If the folder holds no translator, or a package for it is missing.
    """
    return open_translator(path)(texts, **options)


def open_translator(path: str | Path) -> "Translator":
    """The translator in a folder, to be called many times; see `translate`."""
    path = Path(path).expanduser()
    tokenizer = open_tokenizer(path)
    model, variables = load(path) if is_run(path) else load("marian", path)
    return Translator(model, variables, tokenizer)


class Translator:
    """A model with its tokenizer.

    Sources are padded to a power of two and their number to the batch size, so that there is a
    program for each of a few lengths, compiled when it is first needed.
    """

    def __init__(
        self, model: nn.Module, variables: Mapping[str, Any], tokenizer: Tokenizer
    ) -> None:
        """Takes a `Transformer`, its variables and its tokenizer."""
        if tokenizer.vocab_size != getattr(model, "vocab_size", None):
            raise InputError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, but the model"
                f" {getattr(model, 'vocab_size', 'none')}"
            )
        self.model, self.variables, self.tokenizer = model, variables, tokenizer
        self._generate = jax.jit(functools.partial(generate, model), static_argnums=3)

    def __call__(
        self,
        texts: Sequence[str],
        *,
        num_beams: int = 4,
        length_penalty: float = 0.6,
        batch_size: int = 16,
    ) -> list[str]:
        """The translation of each text.

        Args:
            texts: In the source's language.
            num_beams: Sequences kept in the search at a time; 1 is greedy and fastest.
            length_penalty: See `Search`.
            batch_size: Texts at a time.
        """
        tokens = self.tokenizer.encode(texts)
        buckets: dict[int, list[int]] = {}
        for number, source in enumerate(tokens):
            length = max(_SHORTEST, 1 << (len(source) - 1).bit_length())
            buckets.setdefault(length, []).append(number)
        found = [""] * len(tokens)
        for length, numbers in buckets.items():
            search = search_rules(self.tokenizer, length, num_beams, length_penalty)
            for start in range(0, len(numbers), batch_size):
                chosen = numbers[start : start + batch_size]
                # Rows that are left are of nothing, and end at once.
                sources = np.full((batch_size, length), self.tokenizer.pad_id, np.int32)
                valid = np.zeros((batch_size, length), bool)
                for row, number in enumerate(chosen):
                    sources[row, : len(tokens[number])] = tokens[number]
                    valid[row, : len(tokens[number])] = True
                sequences = self._generate(self.variables, sources, valid, search)
                for number, decoded in zip(chosen, np.asarray(sequences.tokens), strict=False):
                    found[number] = self.tokenizer.decode(decoded)
        return found


def search_rules(
    tokenizer: Tokenizer, length: int, num_beams: int = 1, length_penalty: float = 1.0
) -> Search:
    """How to translate sources of a bucket's length."""
    return Search(
        tokenizer.start_id,
        tokenizer.end_id,
        tokenizer.pad_id,
        max_length=length + EXTRA,
        num_beams=num_beams,
        length_penalty=length_penalty,
        forced_end=True,
    )
