"""Translation."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

import eval.translation
from train.tasks import Batch, Draw, Mean, Put
from zoo.data import Dataset, TranslationData, open_translation, unbundle
from zoo.data.translation import BundleSource
from zoo.losses.translation import token_cross_entropy
from zoo.types import InputError


@dataclasses.dataclass(frozen=True)
class Translation:
    """Texts of one language to texts of another, token after token.

    Attributes:
        label_smoothing: Share of the target that is spread evenly over the vocabulary.
        eval_pairs: Pairs of the evaluation's split, the first ones, that an evaluation during
            training translates, greedily.
    """

    label_smoothing: float = 0.1
    eval_pairs: int = 1_000

    best: ClassVar[str] = "chrF"  # BLEU says nothing of targets of one word

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing is {self.label_smoothing}, but must be in 0..1")
        if self.eval_pairs < 1:
            raise InputError(f"eval_pairs is {self.eval_pairs}, but must be at least 1")

    def open(self, data: TranslationData, split: Literal["train", "eval"]) -> Dataset:
        """The bundles of a split."""
        most = self.eval_pairs if split == "eval" else None
        return open_translation(data, split, most=most)

    def model_fields(self, data: TranslationData, dataset: Dataset) -> dict[str, Any]:
        """As many tokens as the tokenizer has."""
        return {"vocab_size": cast(BundleSource, dataset.source).tokenizer.vocab_size}

    def init(self, model: nn.Module, key: jax.Array, batch: Batch) -> Mapping[str, Any]:
        """The model's variables, which do not depend on the length."""
        tokens = jnp.zeros((1, 1), jnp.int32)
        return model.init(key, tokens, tokens)

    def prepare(self, data: TranslationData, model: Any, key: jax.Array, batch: Batch) -> Batch:
        """The pairs of the bundles, each a row, with what the decoder is given."""
        return unbundle(batch)

    def loss(
        self, model: nn.Module, variables: Mapping[str, Any], key: jax.Array, batch: Batch
    ) -> tuple[dict[str, Mean], dict[str, Mean], Mapping[str, Any]]:
        """Cross-entropy over the targets' tokens; without smoothing, and their accuracy."""
        logits, changed = model.apply(
            variables,
            batch["sources"],
            batch["inputs"],
            batch["sources_valid"],
            train=True,
            rngs={"dropout": key},
            mutable=[name for name in variables if name != "params"],
        )
        targets, valid = batch["targets"], batch["targets_valid"]
        loss = token_cross_entropy(logits, targets, self.label_smoothing)
        metrics = {
            "token_accuracy": Mean.of(logits.argmax(axis=-1) == targets, valid),
            "cross_entropy": Mean.of(token_cross_entropy(logits, targets), valid),
        }
        return {"loss": Mean.of(loss, valid)}, metrics, changed

    def evaluator(
        self,
        model: nn.Module,
        data: TranslationData,
        dataset: Dataset,
        batch_size: int,
        put: Put,
    ) -> Callable[[Mapping[str, Any]], dict[str, float]]:
        """chrF, exact match, token accuracy, perplexity, as `eval.translation` has them."""
        evaluate = eval.translation.evaluator(model, dataset, batch_size, put)
        return lambda variables: evaluate(variables).figures()

    def pictures(
        self, model: nn.Module, data: TranslationData, dataset: Dataset, put: Put
    ) -> Draw | None:
        """None: `eval.translation` draws."""
        return None
