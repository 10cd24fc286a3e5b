"""Pictures of a detector's evaluation: precision over recall, the worst mistakes."""

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from eval.diagnose import Curve, Mistakes

_LEGEND = 12  # categories that a legend names
_TRUTH, _WRONG = (80, 200, 80), (60, 60, 230)  # blue, green, red
_PANEL = 320
_AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION  # as the boxes are


def precision_recall(path: Path, curves: Mapping[str, Curve], title: str) -> None:
    """Draws the curves of all categories that have objects; the largest are named."""
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
    figure.savefig(path, dpi=120)


def worst(
    path: Path,
    found: Mistakes,
    read: Callable[[int], np.ndarray | None],
    names: Mapping[int, str],
    count: int = 16,
) -> int:
    """Draws the worst false positives (red) and misses (green) on their images.

    Args:
        path: Picture to write, ``.png``.
        found: What `eval.diagnose.mistakes` returned.
        read: The image of an image id, BGR; None if it cannot be read.
        names: Categories by id.
        count: Of each kind.

    Returns:
        Cases not drawn because their image cannot be read.
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
        cv2.imwrite(str(path), np.concatenate(lines))
    return unreadable


def read_image(file: Path) -> np.ndarray | None:
    """An image file as its boxes are, BGR; None if it cannot be read."""
    return cv2.imread(str(file), _AS_STORED) if file.is_file() else None


def _panel(
    image: UInt8[np.ndarray, "h w 3"], box_xywh: np.ndarray, text: str, colour: tuple[int, int, int]
) -> UInt8[np.ndarray, "h w 3"]:
    """The image with one box, fitted into a square."""
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
