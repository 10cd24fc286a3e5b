"""Images to patches and back."""

from jaxtyping import Array, Shaped


def grid_size(image_size: int | tuple[int, ...], patch_size: int) -> tuple[int, int]:
    """Rows and columns of the patch grid of an image of (height, width) pixels, or of one side.

    Raises:
        ValueError: If the image does not divide into whole patches.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"image of {height} x {width} px does not divide into patches of"
            f" {patch_size} x {patch_size} px"
        )
    return height // patch_size, width // patch_size


def patchify(images: Shaped[Array, "b h w c"], patch_size: int) -> Shaped[Array, "b n ppc"]:
    """Cuts images into flattened patches.

    Patches are in row-major order of the grid; within a patch the order is (row, column, channel),
    as in MAE (arXiv 2111.06377).

    Raises:
        ValueError: If the image does not divide into whole patches.
    """
    b, h, w, c = images.shape
    rows, columns = grid_size((h, w), patch_size)
    x = images.reshape(b, rows, patch_size, columns, patch_size, c)
    x = x.transpose(0, 1, 3, 2, 4, 5)  # b rows columns p p c
    return x.reshape(b, rows * columns, patch_size * patch_size * c)


def unpatchify(
    patches: Shaped[Array, "b n ppc"], patch_size: int, image_size: tuple[int, int]
) -> Shaped[Array, "b h w c"]:
    """The inverse of `patchify` for images of (height, width) pixels."""
    rows, columns = grid_size(image_size, patch_size)
    x = patches.reshape(patches.shape[0], rows, columns, patch_size, patch_size, -1)
    x = x.transpose(0, 1, 3, 2, 4, 5)  # b rows p columns p c
    return x.reshape(patches.shape[0], *image_size, -1)
