"""Translation."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

import eval.translation
from train.tasks import Batch, Draw, Means, Put, changing
from zoo import family
from zoo.data import Dataset, TranslationData, open_translation, unbundle
from zoo.data.translation import BundleSource
from zoo.models.text.transformer.loss import TokenLoss
from zoo.outputs import Tokens
from zoo.types import InputError


@dataclasses.dataclass(frozen=True)
class Translation:
    """Translates texts of one language into another, token by token.

    Attributes:
        loss: Settings of the loss: label smoothing.
        eval_pairs: An evaluation during training translates this number of pairs, the first ones of
            the evaluation split, with greedy decoding.
    """

    loss: TokenLoss = dataclasses.field(default_factory=TokenLoss)
    eval_pairs: int = 1_000

    kind: ClassVar[family.Task] = "text"
    best: ClassVar[str] = "chrF"  # BLEU is meaningless for targets of one word

    def __post_init__(self) -> None:
        if self.eval_pairs < 1:
            raise InputError(f"eval_pairs is {self.eval_pairs}, but must be at least 1")

    def open(self, data: TranslationData, split: Literal["train", "eval"]) -> Dataset:
        """The bundles of a split."""
        most = self.eval_pairs if split == "eval" else None
        return open_translation(data, split, most=most)

    def model_fields(self, data: TranslationData, dataset: Dataset) -> dict[str, Any]:
        """The number of tokens that the tokenizer has."""
        return {"vocab_size": cast(BundleSource, dataset.source).tokenizer.vocab_size}

    def init(self, model: nn.Module, key: jax.Array, batch: Batch) -> Mapping[str, Any]:
        """The initial variables of the model; they do not depend on the length of the texts."""
        tokens = jnp.zeros((1, 1), jnp.int32)
        return model.init(key, tokens, tokens)

    def prepare(self, data: TranslationData, model: Any, key: jax.Array, batch: Batch) -> Batch:
        """The pairs of the bundles, one pair in each row, with the decoder's input tokens."""
        return unbundle(batch)

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """Sources, the decoder's input tokens, and True for source tokens that are not padding."""
        return batch["sources"], batch["inputs"], batch["sources_valid"]

    def compute_loss(
        self, model: nn.Module, variables: Mapping[str, Any], key: jax.Array, batch: Batch
    ) -> tuple[Means, Means, Mapping[str, Any]]:
        """The losses and metrics that the family's loss computes for the target tokens."""
        logits, changed = model.apply(
            variables,
            *self.inputs(batch),
            train=True,
            rngs={"dropout": key},
            mutable=changing(variables),
        )
        targets = Tokens(batch["targets"], batch["targets_valid"])
        return *self.loss(logits, targets), changed

    def evaluator(
        self,
        model: nn.Module,
        data: TranslationData,
        dataset: Dataset,
        batch_size: int,
        put: Put,
    ) -> Callable[[Mapping[str, Any]], dict[str, float]]:
        """chrF, exact match, token accuracy and perplexity, as in `eval.translation`."""
        evaluate = eval.translation.evaluator(model, dataset, batch_size, put)
        return lambda variables: evaluate(variables).figures()

    def pictures(
        self, model: nn.Module, data: TranslationData, dataset: Dataset, put: Put
    ) -> Draw | None:
        """None: only `eval.translation` draws pictures."""
        return None
