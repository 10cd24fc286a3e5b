"""`translate`: translates texts with a run's model or a public translator."""

import functools
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from zoo.loading import load
from zoo.text.decoding import Search, generate
from zoo.text.tokenizers import Tokenizer, open_tokenizer
from zoo.types import InputError
from zoo.weights.run import is_run

EXTRA = 50
"""A translation may have this many tokens more than its source's bucket (arXiv 1706.03762)."""
_SHORTEST, _LONGEST = 16, 256  # smallest and largest bucket
_LANGUAGE = re.compile(r"\s*>>[^<>\s]+<<\s*")  # code of the target language, before a Marian text
# Where a long text is split: after a sentence, else between words; else anywhere.
_ENDS = (re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])"), re.compile(r"\s+"))


def translate(path: str | Path, texts: Sequence[str], **options: Any) -> list[str]:
    """Translates texts with the model in a folder.

    Args:
        path: The folder of a run, or of a Hugging Face Marian translator such as
            Helsinki-NLP/opus-mt-en-de: weights, config.json, source.spm, target.spm, vocab.json.
        texts: In the source language; split long texts into sentences for better results.
            An empty text gives an empty text.
        **options: `num_beams`, `length_penalty`, `batch_size` of `Translator.__call__`.

    Raises:
        InputError: If the folder has no translator, a package that it needs is missing, or
            `texts` is not a list of texts.
    """
    return open_translator(path)(texts, **options)


def open_translator(path: str | Path) -> "Translator":
    """Opens the translator in a folder, to call it many times; see `translate`."""
    path = Path(path).expanduser()
    tokenizer = open_tokenizer(path)
    model, variables = load(path) if is_run(path) else load("marian", path)
    return Translator(model, variables, tokenizer)


class Translator:
    """A model with its tokenizer.

    Sources are padded to a power of two, the length of their bucket, and their number to the batch
    size. So there is one program for each of a few lengths, compiled when it is first needed.
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
            texts: In the source language. An empty text, or one of spaces, gives an empty text.
                A text of more than 256 tokens is split, with a warning, and translated in parts.
            num_beams: Sequences kept in the search at a time; 1 is greedy and fastest.
            length_penalty: See `Search`.
            batch_size: Number of texts at a time.

        Raises:
            InputError: If `texts` is not a list of texts.
        """
        if isinstance(texts, str) or not isinstance(texts, Iterable):
            raise InputError(f"translate takes a list of texts, not {type(texts).__name__}")
        texts = list(texts)
        if other := [text for text in texts if not isinstance(text, str)]:
            raise InputError(f"translate takes a list of texts, not of {type(other[0]).__name__}")
        parts = [self._parts(text) for text in texts]
        if split := [number for number, found in enumerate(parts) if len(found) > 1]:
            warnings.warn(
                f"texts of more than {_LONGEST} tokens are translated in parts: {len(split)} of"
                f" {len(texts)}, first texts[{split[0]}]; split long texts into sentences",
                stacklevel=2,
            )
        search = functools.partial(
            search_rules, self.tokenizer, num_beams=num_beams, length_penalty=length_penalty
        )
        every = [part for found in parts for part in found]
        translated = iter(self._translate(self.tokenizer.encode(every), search, batch_size))
        return [" ".join(next(translated) for _ in found) for found in parts]

    def _parts(self, text: str) -> list[str]:
        """A text in parts of at most `_LONGEST` tokens, none if empty; each has the text's code."""
        code = match[0] if (match := _LANGUAGE.match(text)) else ""
        rest = text.removeprefix(code).strip()
        if not rest:
            return []
        if len(rest) == 1 or len(self.tokenizer.encode([text])[0]) <= _LONGEST:
            return [text]
        cut = _middle(rest)
        return [*self._parts(code + rest[:cut].rstrip()), *self._parts(code + rest[cut:])]

    def _translate(
        self, tokens: Sequence[Sequence[int]], search: Callable[[int], Search], batch_size: int
    ) -> list[str]:
        """The translation of each sequence; `search` gives the rules for a bucket's length."""
        buckets: dict[int, list[int]] = {}
        for number, source in enumerate(tokens):
            length = max(_SHORTEST, 1 << (len(source) - 1).bit_length())
            buckets.setdefault(length, []).append(number)
        found = [""] * len(tokens)
        for length, numbers in buckets.items():
            for start in range(0, len(numbers), batch_size):
                chosen = numbers[start : start + batch_size]
                # Rows without a text are padding; the search does not wait for them.
                sources = np.full((batch_size, length), self.tokenizer.pad_id, np.int32)
                valid = np.zeros((batch_size, length), bool)
                for row, number in enumerate(chosen):
                    sources[row, : len(tokens[number])] = tokens[number]
                    valid[row, : len(tokens[number])] = True
                sequences = self._generate(self.variables, sources, valid, search(length))
                for number, decoded in zip(chosen, np.asarray(sequences.tokens), strict=False):
                    found[number] = self.tokenizer.decode(decoded)
        return found


def _middle(text: str) -> int:
    """The place nearest the middle where a text of at least two characters is best split."""
    middle = len(text) // 2
    for ends in _ENDS:
        places = [match.end() for match in ends.finditer(text) if match.end() < len(text)]
        if places:
            return min(places, key=lambda place: abs(place - middle))
    return middle


def search_rules(
    tokenizer: Tokenizer, length: int, num_beams: int = 1, length_penalty: float = 1.0
) -> Search:
    """The rules of the search for sources of a bucket's length."""
    return Search(
        tokenizer.start_id,
        tokenizer.end_id,
        tokenizer.pad_id,
        max_length=length + EXTRA,
        num_beams=num_beams,
        length_penalty=length_penalty,
        forced_end=True,
    )
