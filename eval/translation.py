"""Translation: BLEU, chrF, exact match; token accuracy and perplexity of the right targets.

python -m eval.translation --workdir=DIR [--checkpoint=best|last|STEP] [--average=N] [--json=FILE]
                           [--num_beams=4] [--length_penalty=0.6] [--translate=TEXT ...]

Translates the evaluation split of a run with one of its checkpoints, or with the mean of the last
ones, and draws the decoder's attention to a few sources. With --translate, translates only the
given texts.
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import sacrebleu
from flax import linen as nn
from jaxtyping import Float, Int, Shaped
from rich.console import Console
from rich.table import Column, Table

from eval.command import add_run_arguments, make_parser, run_command
from eval.compiling import announced
from eval.pictures import draw_cross_attention
from eval.runs import Put, Run, open_run
from zoo.data import (
    Dataset,
    TranslationData,
    eval_batches,
    open_translation,
    prefetch,
    unbundle,
)
from zoo.data.devices import data_mesh, fetch_rows, gather, replicate, this_process
from zoo.data.translation import BundleSource
from zoo.losses.translation import token_cross_entropy
from zoo.text.decoding import Search, generate
from zoo.text.tokenizers import open_tokenizer
from zoo.text.translator import Translator, search_rules
from zoo.types import InputError
from zoo.weights.run import average_run
from zoo.writing import write_whole


@dataclasses.dataclass(frozen=True)
class TranslationResult:
    """Translations, and how well the model predicts the reference translations.

    Attributes:
        sources: Texts that were translated.
        references: Their correct translations.
        hypotheses: The model's translations.
        losses: Cross-entropy of each reference, summed over its tokens.
        hits: Number of tokens of each reference that the model finds most likely.
        lengths: Number of tokens of each reference.
    """

    sources: Sequence[str]
    references: Sequence[str]
    hypotheses: Sequence[str]
    losses: Float[np.ndarray, " n"]
    hits: Int[np.ndarray, " n"]
    lengths: Int[np.ndarray, " n"]

    def figures(self) -> dict[str, float]:
        """BLEU and chrF in 0..100, exact_match and token_accuracy in 0..1, and perplexity."""
        right = [h == r for h, r in zip(self.hypotheses, self.references, strict=True)]
        tokens = int(self.lengths.sum())
        references = [list(self.references)]
        return {
            "BLEU": sacrebleu.BLEU().corpus_score(self.hypotheses, references).score,
            "chrF": sacrebleu.CHRF().corpus_score(self.hypotheses, references).score,
            "exact_match": sum(right) / len(right),
            "token_accuracy": int(self.hits.sum()) / tokens,
            "perplexity": math.exp(math.fsum(self.losses) / tokens),
        }


def signatures() -> dict[str, str]:
    """The signatures of BLEU and chrF by sacrebleu, which say how they are computed."""
    metrics = {"BLEU": sacrebleu.BLEU(), "chrF": sacrebleu.CHRF()}
    for metric in metrics.values():
        metric.corpus_score(["a"], [["a"]])  # needed before get_signature
    return {name: str(metric.get_signature()) for name, metric in metrics.items()}


def evaluator(
    model: nn.Module,
    examples: Dataset,
    batch_size: int,
    put: Put,
    num_beams: int = 1,
    length_penalty: float = 1.0,
) -> Callable[[Mapping[str, Any]], TranslationResult]:
    """A function of the variables that translates all sources; compiles once for each bucket.

    Args:
        model: A `Transformer`.
        examples: Data from `open_translation`.
        batch_size: Number of bundles at a time; the figures do not depend on it.
        put: Moves a batch to the devices.
        num_beams: Sequences kept in the search at a time; 1 is greedy.
        length_penalty: See `zoo.text.decoding.Search`.
    """
    source = cast(BundleSource, examples.source)
    rules = partial(
        search_rules, source.tokenizer, num_beams=num_beams, length_penalty=length_penalty
    )

    translate = announced(jax.jit(partial(_translate_batch, model, rules)))

    def evaluate(variables: Mapping[str, Any]) -> TranslationResult:
        found: dict[int, tuple] = {}
        share = eval_batches(examples, batch_size, **this_process())
        with closing(prefetch(share, put)) as batches:
            for batch in batches:
                out = fetch_rows(translate(variables, batch))
                for row in np.flatnonzero(out["index"] >= 0).tolist():
                    text = source.tokenizer.decode(out["tokens"][row])
                    figures = [out[name][row] for name in ("losses", "hits", "lengths")]
                    found[int(out["index"][row])] = (text, *figures)
        for others in gather(found):
            found |= others
        order = sorted(found)
        texts, losses, hits, lengths = zip(*(found[i] for i in order), strict=True)
        first, second = zip(*(source.pairs[i] for i in order), strict=True)
        arrays = (np.asarray(x) for x in (losses, hits, lengths))
        return TranslationResult(first, second, texts, *arrays)

    return evaluate


def _translate_batch(
    model: nn.Module,
    rules: Callable[[int], Search],
    variables: Mapping[str, Any],
    batch: Mapping[str, Any],
) -> dict[str, Shaped[jax.Array, "p ..."]]:
    """The translations of a batch's pairs, and how well the model predicts their references."""
    rows = unbundle(batch)
    logits: Any = model.apply(variables, rows["sources"], rows["inputs"], rows["sources_valid"])
    losses = token_cross_entropy(logits, rows["targets"])
    hits = logits.argmax(axis=-1) == rows["targets"]
    search = rules(rows["sources"].shape[1])
    found = generate(model, variables, rows["sources"], rows["sources_valid"], search)
    return {
        "index": rows["index"],
        "tokens": found.tokens,
        "losses": jnp.where(rows["targets_valid"], losses, 0).sum(axis=-1),
        "hits": jnp.sum(hits & rows["targets_valid"], axis=-1),
        "lengths": rows["targets_valid"].sum(axis=-1),
    }


def print_table(
    result: TranslationResult, figures: Mapping[str, Any], console: Console, most: int = 10
) -> None:
    """Prints the first translations that differ from their references, and the figures."""
    rows = zip(result.sources, result.references, result.hypotheses, strict=True)
    wrong = [row for row in rows if row[1] != row[2]][:most]
    if wrong:
        columns = [Column(name, overflow="fold") for name in ("source", "right", "translated")]
        table = Table(*columns, title="the first that differ")
        for row in wrong:
            table.add_row(*row)
        console.print(table)
    names = ("BLEU", "chrF", "exact_match", "token_accuracy", "perplexity")
    summary = "  ".join(f"{name} {figures[name]:.4f}" for name in names)
    console.print(f"{figures['examples']} pairs, step {figures['step']}: {summary}")
    for signature in figures["signatures"].values():
        console.print(signature)


def draw_attention(run: Run, examples: Dataset, path: Path) -> None:
    """Draws the attention of the decoder's last block to the sources of the first bundle."""
    source = cast(BundleSource, examples.source)
    example = examples.transform(source[0], np.random.default_rng(0))
    rows = jax.device_get(unbundle({name: jnp.asarray(x)[None] for name, x in example.items()}))
    apply = jax.jit(partial(run.model.apply, mutable=["intermediates"]))
    _, sown = apply(run.variables, rows["sources"], rows["inputs"], rows["sources_valid"])
    blocks, last = sown["intermediates"], cast(Any, run.model).num_decoder_layers - 1
    if "decoder_blocks" in blocks:  # scanned
        maps = blocks["decoder_blocks"]["cross_attn"]["attention"][0][last]
    else:
        (maps,) = blocks[f"decoder_blocks_{last}"]["cross_attn"]["attention"]
    panels = []
    for row in np.flatnonzero(rows["index"] >= 0)[:4].tolist():
        tokens, targets = (rows[k][row][rows[f"{k}_valid"][row]] for k in ("sources", "targets"))
        weights = np.asarray(maps[row].mean(axis=0)[: len(targets), : len(tokens)])
        panels.append((weights, *map(source.tokenizer.pieces, (tokens, targets))))
    draw_cross_attention(panels, path)


def averaged(run: Run, workdir: Path, count: int) -> Run:
    """The run, with the mean of the variables of its last `count` checkpoints."""
    variables, steps = average_run(workdir, count)
    return dataclasses.replace(run, variables=replicate(variables, data_mesh()), step=steps[-1])


def evaluate_run(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Evaluates a checkpoint of a run, and draws; returns its figures, if texts are not all."""
    console = Console(markup=False, highlight=False)
    workdir = arguments.workdir
    for name in ("num_beams", "average"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            raise InputError(f"--{name} is {value}, but must be at least 1")
    run = open_run(arguments, TranslationData)
    if arguments.average:
        run = averaged(run, workdir, arguments.average)
    tokenizer = open_tokenizer(workdir)
    search = {"num_beams": arguments.num_beams, "length_penalty": arguments.length_penalty}
    if arguments.translate:
        for text in Translator(run.model, run.variables, tokenizer)(arguments.translate, **search):
            console.print(text, soft_wrap=True)
        return None
    examples = open_translation(run.data, "eval", tokenizer)
    result = evaluator(run.model, examples, run.batch_size, run.put, **search)(run.variables)

    figures = {
        **result.figures(),
        "examples": len(result.hypotheses),
        "step": run.step,
        "averaged": arguments.average or 1,
        **search,
        "signatures": signatures(),
    }
    print_table(result, figures, console)
    path = workdir / "translations.tsv"
    rows = zip(result.sources, result.references, result.hypotheses, strict=True)
    write_whole(path, "".join("\t".join(row) + "\n" for row in rows))
    console.print(f"source, reference, translation: {path}", soft_wrap=True)
    path = workdir / "attention_maps.png"
    draw_attention(run, examples, path)
    console.print(f"attention maps: {path}", soft_wrap=True)
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code, 2 for bad input."""
    parser = make_parser("translation", (__doc__ or "").splitlines()[0])
    add_run_arguments(parser, batch_size=32)
    parser.add_argument("--average", type=int, help="mean of so many last checkpoints")
    parser.add_argument("--num_beams", type=int, default=4, help="of the search; 1 is greedy")
    parser.add_argument("--length_penalty", type=float, default=0.6, help="of the search")
    parser.add_argument("--translate", action="append", metavar="TEXT", help="translate this alone")
    return run_command(parser, evaluate_run, argv)


if __name__ == "__main__":
    sys.exit(main())
