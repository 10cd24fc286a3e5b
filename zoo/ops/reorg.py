"""Darknet's rearrangement of a fine map into a coarse one with more features (YOLO v2)."""

from jaxtyping import Array, Shaped


def reorg(x: Shaped[Array, "b h w c"], stride: int = 2) -> Shaped[Array, "b rows columns d"]:
    """Darknet's ``reorg`` layer; it is not space-to-depth.

    The paper (arXiv 1612.08242, section 3, "Fine-Grained Features") describes space-to-depth. The
    program reads the numbers of a map ``[c, h, w]`` as if they were those of a map
    ``[c / stride**2, h * stride, w * stride]``, applies space-to-depth to that one, and reads the
    result as ``[c * stride**2, h / stride, w / stride]``; published weights belong to this.
    Reference: `reorg_cpu` in pjreddie/darknet's ``src/blas.c``.

    Args:
        x: A map whose height and width are multiples of `stride`, and its features of its square.
        stride: Factor between the resolutions.

    Returns:
        A map of ``h / stride`` rows, ``w / stride`` columns and ``c * stride**2`` features.

    Raises:
        ValueError: If the sizes are not such multiples.
    """
    b, h, w, c = x.shape
    if h % stride or w % stride or c % stride**2:
        raise ValueError(f"reorg by {stride} does not divide {h} x {w} pixels of {c} features")
    x = x.transpose(0, 3, 1, 2).reshape(b, c // stride**2, h, stride, w, stride)
    x = x.transpose(0, 3, 5, 1, 2, 4)  # b stride stride c/stride**2 h w
    x = x.reshape(b, c * stride**2, h // stride, w // stride)
    return x.transpose(0, 2, 3, 1)
