"""The Transformer's loss: cross-entropy with smoothed targets (arXiv 1706.03762, section 5.4)."""

import dataclasses

from jaxtyping import Array, Float

from zoo.losses.mean import Mean, Means
from zoo.losses.translation import token_cross_entropy
from zoo.outputs import Tokens
from zoo.types import InputError


@dataclasses.dataclass(frozen=True)
class TokenLoss:
    """Cross-entropy of the targets' tokens.

    Attributes:
        label_smoothing: Share of the target that is spread evenly over the vocabulary.
    """

    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing is {self.label_smoothing}, but must be in 0..1")

    def __call__(self, logits: Float[Array, "b t v"], targets: Tokens) -> tuple[Means, Means]:
        """The loss; as metrics the token accuracy, and the cross-entropy without smoothing."""
        tokens, valid = targets.tokens, targets.valid
        loss = token_cross_entropy(logits, tokens, self.label_smoothing)
        metrics = {
            "token_accuracy": Mean.of(logits.argmax(axis=-1) == tokens, valid),
            "cross_entropy": Mean.of(token_cross_entropy(logits, tokens), valid),
        }
        return {"loss": Mean.of(loss, valid)}, metrics
