"""Translation data: pairs of texts as tokens, in bundles with an equal number of tokens.

The examples of the loader are bundles: pairs of one length bucket, as many as fit into a fixed
number of tokens. So every batch has about the same number of tokens, padding included. Which pairs
are in a bundle is drawn once; each epoch has another order of the bundles.
"""

import dataclasses
import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Int32, Shaped

from zoo.data.dataset import Dataset, Example
from zoo.data.errors import DataError
from zoo.data.pairs import Pairs, open_pairs
from zoo.text.tokenizers import BytePairs, Tokenizer, open_tokenizer


@dataclasses.dataclass(frozen=True)
class TranslationData:
    """What to train and evaluate on; the defaults are the embedded number words.

    A batch of a run is `batch_size` bundles, each of `bundle_tokens` tokens a side: 96 bundles of
    256 are 24,576 tokens of sources and 24,576 of targets.

    Attributes:
        source: ``number_words``; ``pairs:FILE`` with lines ``text TAB translation``, of which one
            in twenty is held out; ``pairs:FOLDER`` with train.tsv and test.tsv; or a TFDS set such
            as ``wmt14_translate/de-en``.
        data_dir: Folder of TFDS's data sets; None is ``~/tensorflow_datasets``.
        train_split: What to train on; TFDS's splits may have slices, ``train[:99%]``.
        eval_split: The same for evaluation.
        languages: The source's and the target's code.
        tokenizer: ``bpe``, trained on the training split; or a file or folder for
            `zoo.text.tokenizers.open_tokenizer`, of another run or of a Marian translator.
        vocab_size: Tokens of ``bpe``, at least 259.
        buckets: Lengths that sequences are padded to, ascending. Longer pairs are left out of
            training, and their number is logged; evaluation adds buckets, each twice as long.
        bundle_tokens: Tokens of a bundle, padding included; at least the longest bucket.
        threads: Threads that pad.
        workers: Worker processes with that many threads each; with 0, this process does the work.
    """

    source: str = "number_words"
    data_dir: str | None = None
    train_split: str = "train"
    eval_split: str = "test"
    languages: tuple[str, str] = ("en", "de")
    tokenizer: str = "bpe"
    vocab_size: int = 384
    buckets: tuple[int, ...] = (12, 16)
    bundle_tokens: int = 48
    threads: int = 2
    workers: int = 0

    def __post_init__(self) -> None:
        ascending = all(a < b for a, b in zip(self.buckets, self.buckets[1:], strict=False))
        if not self.buckets or self.buckets[0] < 2 or not ascending:
            raise DataError(f"data.buckets is {self.buckets}, but must be ascending from 2 or more")
        if self.bundle_tokens < self.buckets[-1]:
            raise DataError(
                f"data.bundle_tokens is {self.bundle_tokens}, but must be at least the longest"
                f" bucket, {self.buckets[-1]}"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class BundleSource:
    """Bundles of tokenised pairs.

    Attributes:
        pairs: The texts.
        tokenizer: The tokenizer of both languages.
        sources: Tokens of each pair's first text.
        targets: Tokens of each pair's second text.
        bundles: Indices of the pairs of each bundle.
    """

    pairs: Pairs
    tokenizer: Tokenizer
    sources: Sequence[Int32[np.ndarray, " t"]]
    targets: Sequence[Int32[np.ndarray, " t"]]
    bundles: Sequence[Int[np.ndarray, " n"]]

    def __len__(self) -> int:
        return len(self.bundles)

    def __getitem__(self, index: int) -> dict[str, Any]:
        chosen = self.bundles[index]
        return {
            "index": chosen,
            "sources": [self.sources[i] for i in chosen],
            "targets": [self.targets[i] for i in chosen],
        }


@dataclasses.dataclass(frozen=True)
class PadBundle:
    """Pads the sequences of a bundle to its bucket, and the bundle to its number of pairs."""

    shapes: tuple[tuple[int, int], ...]  # pairs and length of each bucket, ascending by length
    pad_id: int
    start_id: int

    def __call__(self, example: Mapping[str, Any], rng: np.random.Generator) -> Example:
        """Converts a raw example of `BundleSource` to an example of `open_translation`."""
        longest = max(map(len, (*example["sources"], *example["targets"])))
        count, length = next(shape for shape in self.shapes if shape[1] >= longest)
        padded = empty_bundle(count, length, self.pad_id)
        padded["valid"] = np.bool_(True)
        for i, index in enumerate(example["index"]):
            source, target = example["sources"][i], example["targets"][i]
            padded["index"][i] = index
            padded["sources"][i, : len(source)] = source
            padded["targets"][i, : len(target)] = target
            padded["inputs"][i, : len(target)] = [self.start_id, *target[:-1]]
            padded["source_length"][i], padded["target_length"][i] = len(source), len(target)
        return padded


def empty_bundle(count: int, length: int, pad_id: int) -> dict[str, Any]:
    """A bundle that is all padding."""
    tokens = np.full((count, length), pad_id, np.int32)
    return {
        "index": np.full(count, -1, np.int32),
        **{name: tokens.copy() for name in ("sources", "targets", "inputs")},
        "source_length": np.zeros(count, np.int32),
        "target_length": np.zeros(count, np.int32),
        "valid": np.bool_(False),
    }


def unbundle(batch: Mapping[str, Any]) -> dict[str, Shaped[jax.Array, "p ..."]]:
    """The pairs of a batch of bundles as rows, on the device, with masks of the valid tokens.

    Returns:
        ``sources`` and ``sources_valid`` [p s]; ``inputs`` of the decoder, ``targets`` and
        ``targets_valid`` [p t]; ``index`` [p].
    """
    rows = {name: x.reshape(-1, *x.shape[2:]) for name, x in batch.items() if name != "valid"}
    places = jnp.arange(rows["sources"].shape[1])
    return {
        **{name: rows[name] for name in ("index", "sources", "inputs", "targets")},
        "sources_valid": places < rows["source_length"][:, None],
        "targets_valid": places < rows["target_length"][:, None],
    }


def open_translation(
    config: TranslationData,
    split: Literal["train", "eval"],
    tokenizer: Tokenizer | None = None,
    most: int | None = None,
) -> Dataset:
    """Opens the data of a config for training or for evaluation.

    Examples are bundles of n pairs: ``sources`` and ``targets`` int32 [n t], with the end, padded;
    ``inputs`` int32 [n t], the start and then the targets without the last token;
    ``source_length``, ``target_length`` int32 [n]; ``index`` int32 [n], positions in
    ``source.pairs``, -1 for padding; ``valid`` bool []. All texts are tokenised when the data is
    opened; 4.5 million pairs take minutes and a gigabyte.

    Args:
        config: What to read.
        split: Which of the config's two splits.
        tokenizer: The tokenizer that a model was trained with; None is the one in the config.
        most: Number of pairs to take, from the first on; None is all.

    Raises:
        DataError: If the source, a split or the tokenizer is missing or unusable.
    """
    tokenizer = tokenizer or _tokenizer(dataclasses.replace(config, eval_split=""))
    name = config.train_split if split == "train" else config.eval_split
    pairs = open_pairs(config.source, config.data_dir, name, config.languages)[:most]
    if not pairs:
        raise DataError(f"data {config.source!r} has no pairs in the split {name!r}")
    sources, targets = (
        [np.asarray(tokens, np.int32) for tokens in tokenizer.encode(texts, target=bool(target))]
        for target, texts in enumerate(zip(*pairs, strict=True))
    )
    lengths = np.maximum([len(x) for x in sources], [len(x) for x in targets])
    buckets = list(config.buckets)
    while split == "eval" and buckets[-1] < lengths.max():
        buckets.append(2 * buckets[-1])
    bundles, groups = bundle(lengths, buckets, config.bundle_tokens, shuffle=split == "train")
    if left_out := int((lengths > buckets[-1]).sum()):
        logging.getLogger(__name__).warning(
            "left out: %d of %d pairs, longer than %d tokens", left_out, len(pairs), buckets[-1]
        )
    shapes = tuple((max(1, config.bundle_tokens // length), length) for length in buckets)
    return Dataset(
        source=BundleSource(pairs, tokenizer, sources, targets, bundles),
        transform=PadBundle(shapes, tokenizer.pad_id, tokenizer.start_id),
        padding=tuple(empty_bundle(*shape, tokenizer.pad_id) for shape in shapes),
        class_names=(),
        threads=config.threads,
        workers=config.workers,
        groups=groups,
        files=tokenizer.files(),
    )


@functools.lru_cache(maxsize=2)
def _tokenizer(config: TranslationData) -> Tokenizer:
    """The tokenizer of a config; the same object for both splits."""
    if config.tokenizer != "bpe":
        return open_tokenizer(config.tokenizer)
    pairs = open_pairs(config.source, config.data_dir, config.train_split, config.languages)

    def texts() -> Iterator[str]:
        for pair in pairs:
            yield from pair

    return BytePairs.train(texts(), config.vocab_size)


def bundle(
    lengths: Int[np.ndarray, " n"], buckets: Sequence[int], tokens: int, *, shuffle: bool
) -> tuple[list[Int[np.ndarray, " m"]], Int[np.ndarray, " bundles"]]:
    """Puts sequences of similar lengths together.

    Args:
        lengths: Length of each sequence; those longer than the last bucket are left out.
        buckets: Lengths that they are padded to, ascending.
        tokens: Most tokens of a bundle; but a bundle has at least one sequence.
        shuffle: Whether sequences of a bucket are bundled in a random order, which is always the
            same.

    Returns:
        Indices of the sequences of each bundle; and the bucket of each bundle.
    """
    bundles, groups = [], []
    which = np.searchsorted(buckets, lengths)
    for group, length in enumerate(buckets):
        members = np.flatnonzero(which == group)
        if shuffle:
            members = np.random.RandomState(0).permutation(members)
        size = max(1, tokens // length)
        found = [members[i : i + size] for i in range(0, len(members), size)]
        bundles += found
        groups += [group] * len(found)
    return bundles, np.asarray(groups, np.int64)
