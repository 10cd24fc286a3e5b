"""Template matching: finds parts of an image that look like given pictures."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from zoo.classical.windows import ScoreMaps, WindowDetector
from zoo.ops.correlation import normalised_cross_correlation
from zoo.ops.pool import max_pool


def template_detector(templates: Float[Array, "t p q c"], **settings: Any) -> WindowDetector:
    """A detector of the objects that templates show, at all scales.

    Args:
        templates: Pictures of one size; the colours are on the scale of the images.
        **settings: Fields of `WindowDetector`. By default each template is a class of its own;
            with ``labels=(0, 0, 1)`` the first two show the same class.
    """
    settings = {"labels": tuple(range(len(templates))), **settings}
    height, width = templates.shape[1:3]
    return WindowDetector(score_templates(templates), (height, width), stride=1, **settings)


def score_templates(templates: Float[Array, "t p q c"]) -> ScoreMaps:
    """Scores windows by zero-mean normalised cross-correlation with each template.

    A window that one of its eight neighbours surpasses gets -1: the neighbours of a good match are
    nearly as good, and would take the places of other candidates.
    """

    def score(images: Float[Array, "b h w c"]) -> Float[Array, "b rows columns t"]:
        scores = normalised_cross_correlation(images, templates)
        return jnp.where(scores == max_pool(scores, 3, 1, padding=1), scores, -1)

    return score
