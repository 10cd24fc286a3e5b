"""Pictures of evaluations."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle


def draw_confusion_matrix(counts: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Draws how often each class (row) was taken for each other (column).

    Args:
        counts: int [k k].
        class_names: Of the k classes; written beside the axes up to 50 of them.
        path: Where the png goes.
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
    figure.savefig(path, dpi=100)


def attention_rollout(attention: Sequence[np.ndarray]) -> np.ndarray:
    """How much each token went into each other, through all blocks (arXiv 2005.00928).

    Args:
        attention: Maps after softmax, [b heads n n], first block first.

    Returns:
        [b n n], rows sum to 1.
    """
    rollout = np.eye(attention[0].shape[-1])
    for weights in attention:
        mixed = 0.5 * weights.mean(axis=1) + 0.5 * np.eye(weights.shape[-1])  # half is the residual
        rollout = mixed @ rollout
    return rollout


def draw_attention_maps(
    images: np.ndarray,
    attention: Sequence[np.ndarray],
    grid: tuple[int, int],
    titles: Sequence[str],
    path: Path,
) -> None:
    """Draws images, and where the model looked to name them.

    A row an image: itself, the attention of the last block, and the rollout over all blocks; both
    from the class token, or where there is none averaged over all tokens.

    Args:
        images: uint8 [b h w 3].
        attention: Maps after softmax, [b heads n n], first block first.
        grid: Rows and columns of the patches, which are the last tokens.
        titles: What to write above each image.
        path: Where the png goes.
    """
    patches = grid[0] * grid[1]
    has_class_token = attention[0].shape[-1] > patches

    def looked_at(weights: np.ndarray) -> np.ndarray:
        """Weights [b n n] from the class token, or from all, to the patches, [b rows columns]."""
        weights = weights[:, 0] if has_class_token else weights.mean(axis=1)
        return weights[:, -patches:].reshape(-1, *grid)

    maps = {
        "last block": looked_at(attention[-1].mean(axis=1)),
        "all blocks (rollout)": looked_at(attention_rollout(attention)),
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
    figure.savefig(path, dpi=100)


def draw_boxes(
    panels: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, Sequence[str]]], path: Path
) -> None:
    """Draws images with the true boxes (green) and those found (red, named) on them.

    Args:
        panels: For each image its pixels, uint8 [h w 3], the true boxes and the found ones, xyxy
            in pixels, [n 4] each, and a text for each found box.
        path: Where the png goes.
    """
    columns = min(4, max(len(panels), 1))
    rows = -(-len(panels) // columns) or 1
    figure = Figure(figsize=(4 * columns, 4 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, (image, truth, found, texts) in zip(grid.flat, panels, strict=False):
        axes.imshow(image)
        for boxes, colour in ((truth, "limegreen"), (found, "red")):
            for left, top, right, bottom in np.asarray(boxes).reshape(-1, 4):
                size = (right - left, bottom - top)
                box = Rectangle((left - 0.5, top - 0.5), *size, fill=False, color=colour)
                axes.add_patch(box)
        for (left, top, *_), text in zip(np.asarray(found).reshape(-1, 4), texts, strict=True):
            axes.text(left, top, text, color="white", fontsize=7, va="bottom", backgroundcolor="r")
    figure.savefig(path, dpi=100)


def draw_images(images: np.ndarray, titles: Sequence[str], path: Path) -> None:
    """Draws images with a title each.

    Args:
        images: uint8 [b h w 3].
        titles: One an image.
        path: Where the png goes.
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
    figure.savefig(path, dpi=100)


def draw_reconstructions(
    originals: np.ndarray, seen: np.ndarray, restored: np.ndarray, caption: str, path: Path
) -> None:
    """Draws what a masked autoencoder saw and what it made of it, a column an image.

    Args:
        originals: The images, on a scale of 0..1, [b h w 3].
        seen: True where a pixel was visible, [b h w 1].
        restored: The reconstructions, visible patches included, [b h w 3].
        caption: What to write below.
        path: Where the png goes.
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
    figure.savefig(path, dpi=100)


def draw_cross_attention(
    panels: Sequence[tuple[np.ndarray, Sequence[str], Sequence[str]]], path: Path
) -> None:
    """Draws where a decoder looked in sources, as heat maps side by side.

    Args:
        panels: For each pair the map after softmax, [t s]; what to write for the s tokens of the
            source; and for the t tokens of the target, each beside the look that gave it.
        path: Where the png goes.
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
    figure.savefig(path, dpi=100)
