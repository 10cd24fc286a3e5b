"""Checks of translation data."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from eval.pictures import save_figure
from train.checks.findings import Findings
from train.tasks import Batch, Put
from zoo.data import Dataset, TranslationData
from zoo.data.translation import BundleSource


def inspect(data: TranslationData, train: Dataset, held_out: Dataset) -> Findings:
    """Counts pairs and tokens of both splits, and finds sources that are in both."""
    table = Table()
    for column in ("split", "pairs", "bundles", "median tokens", "most tokens"):
        table.add_column(column, justify="right")
    sources = {"train": _source(train), "eval": _source(held_out)}
    for split, source in sources.items():
        lengths = [len(tokens) for tokens in (*source.sources, *source.targets)]
        counts = (len(source.sources), len(source), int(np.median(lengths)), max(lengths))
        table.add_row(split, *map(str, counts))
    seen = set(_texts(sources["train"]))
    shared = [text for text in _texts(sources["eval"]) if text in seen]
    problems = (
        [f"{len(shared)} sources of eval are in train, too; the first is {shared[0]!r}"]
        if shared
        else []
    )
    return Findings(table, [f"{sources['train'].tokenizer.vocab_size} tokens"], problems)


def _source(dataset: Dataset) -> BundleSource:
    return cast(BundleSource, dataset.source)


def _texts(source: BundleSource) -> list[str]:
    return [source.tokenizer.decode(tokens) for tokens in source.sources]


def draw(data: TranslationData, train: Dataset, batch: Batch, path: Path) -> None:
    """Draws the tokens of a batch: sources, inputs of the decoder, and targets."""
    tokenizer = _source(train).tokenizer
    lines: list[str] = []
    for bundle in range(len(batch["sources"])):
        for row in np.flatnonzero(batch["target_length"][bundle])[:4].tolist():
            for name, count in (("sources", "source"), ("inputs", "target"), ("targets", "target")):
                tokens = batch[name][bundle, row, : batch[f"{count}_length"][bundle, row]]
                lines.append(f"{name:>8}  {'|'.join(tokenizer.pieces(tokens.tolist()))[:120]}")
            lines.append("")
    _write(lines[:64], path)


def _write(lines: Sequence[str], path: Path) -> None:
    figure = Figure(figsize=(12, 0.2 * len(lines) + 0.4))
    figure.text(0.01, 0.99, "\n".join(lines), family="monospace", fontsize=9, va="top")
    save_figure(figure, path)


def score_truth(
    data: TranslationData, dataset: Dataset, batch_size: int, put: Put
) -> dict[str, float]:
    """The share of true translations that stay the same when encoded and decoded as tokens."""
    source = _source(dataset)
    texts = [source.pairs[i][1] for bundle in source.bundles for i in bundle.tolist()]
    tokens = [source.targets[i] for bundle in source.bundles for i in bundle.tolist()]
    same = [source.tokenizer.decode(t) == text for t, text in zip(tokens, texts, strict=True)]
    return {"exact_match": sum(same) / len(same)}
