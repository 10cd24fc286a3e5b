"""Draws pictures of evaluations."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from zoo.writing import write_whole


def save_figure(figure: Figure, path: Any, dpi: int = 100) -> None:
    """Writes a figure as PNG, completely or not at all (see `zoo.writing.write_whole`)."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    write_whole(path, content.getvalue())


def draw_confusion_matrix(
    counts: Int[np.ndarray, "k k"], class_names: Sequence[str], path: Path
) -> None:
    """Draws a confusion matrix: the true class is the row, the predicted class the column.

    Args:
        counts: Number of examples.
        class_names: Name of each class; written beside the axes if there are at most 50.
        path: File to write, ``.png``.
    """
    k = len(class_names)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(4 + 0.3 * k, 16)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    axes.set(xlabel="predicted", ylabel="true")
    if k <= 50:
        axes.set_xticks(range(k), class_names, rotation=90 if k > 12 else 0)
        axes.set_yticks(range(k), class_names)
    if k <= 20:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour)
    save_figure(figure, path)


def attention_rollout(
    attention: Sequence[Float[np.ndarray, "b heads n n"]],
) -> Float[np.ndarray, "b n n"]:
    """The share of each input token in each output token of all blocks (arXiv 2005.00928).

    Args:
        attention: Attention maps of each block, after softmax, first block first.

    Returns:
        Shares of the input tokens (columns) in the output tokens (rows); rows sum to 1.
    """
    rollout = np.eye(attention[0].shape[-1])
    for weights in attention:
        # One half is the residual.
        mixed = 0.5 * weights.mean(axis=1) + 0.5 * np.eye(weights.shape[-1])
        rollout = mixed @ rollout
    return rollout


def draw_attention_maps(
    images: UInt8[np.ndarray, "b h w 3"],
    attention: Sequence[Float[np.ndarray, "b heads n n"]],
    grid: tuple[int, int],
    titles: Sequence[str],
    path: Path,
) -> None:
    """Draws images, and under each the patches that the model attended to.

    A column has the image, the attention of the last block, and the rollout over all blocks. Both
    are the attention of the class token, or the mean over all tokens if there is no class token.

    Args:
        images: The images.
        attention: Attention maps of each block, after softmax, first block first.
        grid: Rows and columns of the patches, which are the last tokens.
        titles: Text above each image.
        path: File to write, ``.png``.
    """
    maps = {
        "last block": _to_patches(attention[-1].mean(axis=1), grid),
        "all blocks (rollout)": _to_patches(attention_rollout(attention), grid),
    }
    height, width = images.shape[1:3]
    figure = Figure(figsize=(1.8 * len(images), 6), layout="constrained")
    panels = figure.subplots(1 + len(maps), len(images), squeeze=False)
    for column, image in enumerate(images):
        panels[0, column].imshow(image)
        panels[0, column].set_title(titles[column], fontsize=9)
        for row, (name, weights) in enumerate(maps.items(), start=1):
            panel = panels[row, column]
            panel.imshow(image, cmap="gray")
            extent = (-0.5, width - 0.5, height - 0.5, -0.5)
            panel.imshow(weights[column], cmap="inferno", alpha=0.6, extent=extent)
            if column == 0:
                panel.set_ylabel(name)
    for panel in panels.flat:
        panel.set(xticks=[], yticks=[])
    save_figure(figure, path)


def _to_patches(
    weights: Float[np.ndarray, "b n n"], grid: tuple[int, int]
) -> Float[np.ndarray, "b rows columns"]:
    """The attention to each patch, of the class token or as the mean over all tokens."""
    patches = grid[0] * grid[1]
    has_class_token = weights.shape[-1] > patches
    of_tokens = weights[:, 0] if has_class_token else weights.mean(axis=1)
    return of_tokens[:, -patches:].reshape(-1, *grid)


class BoxPanel(NamedTuple):
    """An image and its objects, for `draw_boxes`.

    Attributes:
        image: The pixels.
        truth: The true boxes, ``xyxy`` in pixels.
        found: The found boxes.
        texts: A text for each found box.
        true_keypoints: x, y in pixels of the joints of each true object, and a number that is above
            0 for the joints to draw; None if there are none.
        found_keypoints: The same for each found object.
        limbs: Pairs of joints that are joined by a line if both are drawn.
    """

    image: UInt8[np.ndarray, "h w 3"]
    truth: Float[np.ndarray, "n 4"]
    found: Float[np.ndarray, "m 4"]
    texts: Sequence[str]
    true_keypoints: Float[np.ndarray, "n j 3"] | None = None
    found_keypoints: Float[np.ndarray, "m j 3"] | None = None
    limbs: Sequence[tuple[int, int]] = ()


def draw_boxes(panels: Sequence[BoxPanel], path: Path) -> None:
    """Draws images with the true objects (green) and the found ones (red, with a text).

    Args:
        panels: The images.
        path: File to write, ``.png``.
    """
    columns = min(4, max(len(panels), 1))
    rows = -(-len(panels) // columns) or 1
    figure = Figure(figsize=(4 * columns, 4 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, panel in zip(grid.flat, panels, strict=False):
        axes.imshow(panel.image)
        axes.autoscale(False)  # joints outside the image do not enlarge the picture
        kinds = (
            (panel.truth, panel.true_keypoints, "limegreen"),
            (panel.found, panel.found_keypoints, "red"),
        )
        for boxes, keypoints, colour in kinds:
            _draw_keypoints(axes, keypoints, panel.limbs, colour)
            for left, top, right, bottom in np.asarray(boxes).reshape(-1, 4):
                size = (right - left, bottom - top)
                box = Rectangle((left - 0.5, top - 0.5), *size, fill=False, color=colour)
                axes.add_patch(box)
        boxes = np.asarray(panel.found).reshape(-1, 4)
        for (left, top, *_), text in zip(boxes, panel.texts, strict=True):
            axes.text(left, top, text, color="white", fontsize=7, va="bottom", backgroundcolor="r")
    save_figure(figure, path)


def _draw_keypoints(
    axes: Axes,
    keypoints: Float[np.ndarray, "n j 3"] | None,
    limbs: Sequence[tuple[int, int]],
    colour: str,
) -> None:
    for joints in () if keypoints is None else keypoints:
        x, y, shown = joints.T
        shown = shown > 0
        axes.scatter(x[shown] - 0.5, y[shown] - 0.5, s=9, color=colour, zorder=3)
        for limb in map(list, limbs):
            if shown[limb].all():
                axes.plot(x[limb] - 0.5, y[limb] - 0.5, color=colour, linewidth=1)


def draw_images(images: UInt8[np.ndarray, "b h w 3"], titles: Sequence[str], path: Path) -> None:
    """Draws images with a title above each.

    Args:
        images: The images.
        titles: One for each image.
        path: File to write, ``.png``.
    """
    columns = min(8, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.6 * columns, 1.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, title in zip(grid.flat, images, titles, strict=False):
        axes.imshow(image)
        axes.set_title(title, fontsize=8)
    save_figure(figure, path)


def draw_reconstructions(
    originals: Float[np.ndarray, "b h w 3"],
    seen: Bool[np.ndarray, "b h w 1"],
    restored: Float[np.ndarray, "b h w 3"],
    caption: str,
    path: Path,
) -> None:
    """Draws the input and the output of a masked autoencoder, one column for each image.

    Args:
        originals: The images, in 0..1.
        seen: True where a pixel was visible.
        restored: The reconstructions, visible patches included, in 0..1.
        caption: Text below the picture.
        path: File to write, ``.png``.
    """
    rows = {
        "original": originals,
        "masked": np.where(seen, originals, 0.5),
        "reconstruction": restored,
        "overlay": np.where(seen, originals, restored),
    }
    count = len(originals)
    figure = Figure(figsize=(max(1.4 * count, 6), 1.4 * len(rows) + 0.6), layout="constrained")
    panels = figure.subplots(len(rows), count, squeeze=False)
    for row, (name, images) in enumerate(rows.items()):
        for panel, image in zip(panels[row], images, strict=True):
            panel.imshow(image, vmin=0, vmax=1, interpolation="nearest")
            panel.set(xticks=[], yticks=[])
        panels[row, 0].set_ylabel(name)
    if caption:
        figure.supxlabel(caption, fontsize=8)
    save_figure(figure, path)


def draw_cross_attention(
    panels: Sequence[tuple[Float[np.ndarray, "t s"], Sequence[str], Sequence[str]]], path: Path
) -> None:
    """Draws a decoder's attention to its sources, as heat maps side by side.

    Args:
        panels: For each pair of texts the attention map after softmax, the texts of the s source
            tokens, and the texts of the t target tokens; each row of the map belongs to the target
            token that was predicted with it.
        path: File to write, ``.png``.
    """
    widths = [weights.shape[1] for weights, *_ in panels]
    height = max(weights.shape[0] for weights, *_ in panels)
    size = (2 * len(panels) + 0.22 * sum(widths), 2 + 0.22 * height)
    figure = Figure(figsize=size, layout="constrained")
    row = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    for panel, (weights, sources, targets) in zip(row, panels, strict=True):
        panel.imshow(weights, cmap="Blues", vmin=0, vmax=1)
        panel.set_xticks(range(len(sources)), sources, rotation=90, fontsize=8)
        panel.set_yticks(range(len(targets)), targets, fontsize=8)
        panel.set(xlabel="source", ylabel="target")
    save_figure(figure, path)
