"""Draws a detector's evaluation: precision over recall, and the worst mistakes."""

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from eval.diagnose import Curve, Mistakes
from eval.pictures import save_figure
from zoo.data.decode import decode_image, image_size
from zoo.data.errors import DataError
from zoo.writing import write_whole

_LEGEND = 12  # number of categories in a legend
_TRUTH, _WRONG = (80, 200, 80), (60, 60, 230)  # blue, green, red
_PANEL = 320  # side of a panel in pixels


def precision_recall(path: Path, curves: Mapping[str, Curve], title: str) -> None:
    """Draws the curves of all categories with objects; the legend has those with most objects."""
    shown = {name: curve for name, curve in curves.items() if curve.num_objects}
    ranked = sorted(shown, key=lambda name: -shown[name].num_objects)
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for i, name in enumerate(ranked):
        curve = shown[name]
        line = axes.plot(curve.recall, curve.precision, zorder=-i, linewidth=1)[0]
        if i < _LEGEND:
            line.set_label(f"{name} ({curve.num_objects})")
        else:
            line.set_color("0.8")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title=title)
    if ranked:
        axes.legend(fontsize="small", loc="lower left")
    save_figure(figure, path, dpi=120)


def worst(
    path: Path,
    found: Mistakes,
    read: Callable[[int], UInt8[np.ndarray, "h w 3"] | None],
    names: Mapping[int, str],
    count: int = 16,
) -> int:
    """Draws the worst false positives (red) and misses (green) on their images.

    Args:
        path: File to write, ``.png``.
        found: What `eval.diagnose.mistakes` returned.
        read: A function of an image id that returns the image, BGR, or None if it cannot be read.
        names: Names of the categories by id.
        count: Number of false positives and of misses to draw.

    Returns:
        Number of mistakes that are not drawn because their image cannot be read.
    """
    panels, unreadable = [], 0
    kinds = (
        (found.detections, found.false_positives[:count], _WRONG),
        (found.objects, found.misses[:count], _TRUTH),
    )
    for records, rows, colour in kinds:
        for row in rows.tolist():
            image = read(int(records.images[row]))
            if image is None:
                unreadable += 1
                continue
            text = names[int(records.categories[row])]
            if records is found.detections:
                text += f" {found.detections.scores[row]:.2f}"
            panels.append(_panel(image, records.boxes_xywh[row], text, colour))
    if panels:
        panels += [np.zeros_like(panels[0])] * (-len(panels) % 4)
        lines = [np.concatenate(panels[i : i + 4], axis=1) for i in range(0, len(panels), 4)]
        _, png = cv2.imencode(".png", np.concatenate(lines))
        write_whole(path, png.tobytes())
    return unreadable


def read_image(file: Path, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"] | None:
    """An image in BGR; None if it cannot be read.

    Args:
        file: Its path.
        size: Height and width that its annotations are for: if only the pixels as they are stored
            have this size, its orientation is not applied.
    """
    try:
        data, name = file.read_bytes(), str(file)
        stored = image_size(data, name, upright=False) == size != image_size(data, name)
        return decode_image(data, name, upright=not stored)[..., ::-1]
    except (OSError, DataError):
        return None


def _panel(
    image: UInt8[np.ndarray, "h w 3"],
    box_xywh: Float[np.ndarray, "4"],
    text: str,
    colour: tuple[int, int, int],
) -> UInt8[np.ndarray, "side side 3"]:
    """The image with one box and a text, scaled to fit into a square."""
    scale = _PANEL / max(image.shape[:2])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    left, top, width, height = (round(v) for v in (box_xywh * scale).tolist())
    cv2.rectangle(small, (left, top), (left + width, top + height), colour, 2)
    panel = np.zeros((_PANEL, _PANEL, 3), np.uint8)
    small = small[:_PANEL, :_PANEL]
    panel[: small.shape[0], : small.shape[1]] = small
    place = (max(min(left, _PANEL - 120), 2), max(top - 4, 12))
    cv2.putText(panel, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
    return panel
