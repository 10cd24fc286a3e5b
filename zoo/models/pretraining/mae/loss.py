"""MAE's loss: the error of the hidden patches (arXiv 2111.06377)."""

import dataclasses

from jaxtyping import Array, Bool, Float

from zoo.losses.mean import Mean, Means
from zoo.losses.reconstruction import patch_errors
from zoo.models.pretraining.mae.model import MaeOutput


@dataclasses.dataclass(frozen=True)
class MaeLoss:
    """The mean squared error over hidden patches.

    Attributes:
        norm_pix_loss: Whether the target is each patch minus its mean, divided by its deviation.
            Features become better, but the prediction has no brightness and contrast.
    """

    norm_pix_loss: bool = True

    def __call__(
        self, output: MaeOutput, patches: Float[Array, "b n ppc"], valid: Bool[Array, " b"]
    ) -> tuple[Means, Means]:
        """The mean over the hidden patches of the valid images; no other metrics.

        Args:
            output: The model's output.
            patches: Patches of the original images.
            valid: False for an all-padding example.
        """
        errors = patch_errors(output.patches, patches, norm_pix_loss=self.norm_pix_loss)
        hidden = ~output.visible & valid[:, None]
        return {"loss": Mean.of(errors, hidden)}, {}
