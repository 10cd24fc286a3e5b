"""Random masks of patches."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray


def random_visible(key: PRNGKeyArray, num_patches: int, num_visible: int) -> Bool[Array, " n"]:
    """A random mask with exactly `num_visible` visible patches; all such masks are equally likely.

    For a batch, ``jax.vmap`` it over ``jax.random.split(key, b)``.

    >>> int(random_visible(jax.random.key(0), num_patches=16, num_visible=4).sum())
    4

    Args:
        key: Random key of one image.
        num_patches: Patches of the image, n.
        num_visible: How many of them are True.
    """
    order = jax.random.permutation(key, num_patches)
    return order < num_visible


def visible_indices(visible: Bool[Array, "b n"], num_visible: int) -> Int[Array, "b t"]:
    """Indices of the visible patches, ascending; each row has `num_visible` of them.

    >>> visible_indices(jnp.array([[False, True, False, True]]), num_visible=2).tolist()
    [[1, 3]]
    """
    return jnp.argsort(~visible, axis=1, stable=True)[:, :num_visible]
