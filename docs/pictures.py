"""Draws the picture in README.md: predictions of trained models for held-out data.

    python docs/pictures.py --detection=RUN --segmentation=RUN --reconstruction=RUN

The three RUNs are folders of runs of `detr_digit_scenes`, `unet_digit_scenes` and `mae_digits`.
Writes docs/pictures/predictions.png, one wide picture below 300 kB.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import zoo
from eval.reconstruction import fixed_masks, to_pixels
from zoo.data import ClassificationData, normalize, open_classification
from zoo.data.digit_scenes import open_digit_scenes
from zoo.ops.patches import unpatchify
from zoo.predict import reconstruct

Image = UInt8[np.ndarray, "h w 3"]

_COLUMNS = (3, 3, 4)  # of the panels for detection, segmentation and reconstruction
_ROWS = 3
_TITLES = (
    "DETR finds digits",
    "U-Net: image, true labels, predicted labels",
    "MAE: scan, what it sees, what it restores",
)
_COLOURS = ("#ff595e", "#ffca3a", "#8ac926", "#1982c4", "#c77dff")
_LEAST_SCORE = 0.5


def draw_detections(run: Path, panels: np.ndarray) -> None:
    """Draws held-out scenes with the boxes whose score is at least `_LEAST_SCORE`."""
    model, variables = zoo.load(run)
    how = zoo.preprocessing(run)
    names = json.loads((run / "config.json").read_text())["class_names"]
    for panel, index in zip(panels.flat, range(panels.size), strict=True):
        image = open_digit_scenes("test")[index]["image"]
        found = zoo.predict(model, variables, image, preprocessing=how)
        show(panel, image)
        sure = found.scores >= _LEAST_SCORE
        for (left, top, right, bottom), label in zip(
            found.boxes[sure], found.labels[sure], strict=True
        ):
            colour = _COLOURS[label % len(_COLOURS)]
            size = right - left, bottom - top
            panel.add_patch(Rectangle((left, top), *size, fill=False, edgecolor=colour))
            label_box = {"facecolor": colour, "edgecolor": "none", "pad": 0.6}
            panel.text(left, top, names[label], fontsize=6, va="bottom", bbox=label_box)


def draw_segmentations(run: Path, panels: np.ndarray) -> None:
    """Draws held-out scenes, and below each its true and its predicted labels."""
    model, variables = zoo.load(run)
    how = zoo.preprocessing(run)
    for column, index in zip(panels.T, range(20, 20 + panels.shape[1]), strict=True):
        scene = open_digit_scenes("test")[index]
        found = zoo.predict(model, variables, scene["image"], preprocessing=how)
        images = [paint(scene["image"], labels) for labels in (scene["semantic"], found.labels)]
        for panel, image in zip(column, (scene["image"], *images), strict=True):
            show(panel, image)


def paint(image: Image, labels: np.ndarray) -> Image:
    """Paints labels 1 to 10 (the digits) in colours, on the darkened image where the label is 0."""
    colours = np.array(colormaps["tab10"].colors) * 255
    return np.where(labels[..., None] > 0, colours[labels.clip(1) - 1], image // 3).astype(np.uint8)


def draw_reconstructions(run: Path, panels: np.ndarray) -> None:
    """Draws held-out scans, and below each its visible patches and the restored image.

    Scans are gray, so the mean of the restored channels is drawn. Brightness and contrast of the
    restored patches are taken from the original, because the model does not predict them.
    """
    model, variables = zoo.load(run)
    config = json.loads((run / "config.json").read_text())
    how = zoo.preprocessing(run)
    fields = {"source": "digits", "image_size": how.size, "mean": how.mean, "std": how.std}
    data = ClassificationData(**fields, data_dir=config["data"]["data_dir"], threads=1)
    examples = open_classification(data, "eval")
    positions = np.arange(panels.shape[1], dtype=np.int32)
    images = [examples.example(int(i), np.random.default_rng(0))["image"] for i in positions]
    normalised = normalize(jnp.asarray(np.stack(images)), data.mean, data.std)
    visible = fixed_masks(model, jnp.asarray(positions), data.image_size)
    patches = jax.jit(model.apply)(variables, normalised, visible).patches
    task = config["task"]
    norm_pix_loss = task.get("loss", task)["norm_pix_loss"]  # older runs store it in the task
    restored = to_pixels(
        reconstruct(patches, visible, normalised, norm_pix_loss=norm_pix_loss), data
    )
    side = model.patch_size
    seen = jnp.broadcast_to(visible[:, :, None], (*visible.shape, side * side))
    seen = np.asarray(unpatchify(seen, side, data.image_size))
    for column, image, mask, after in zip(panels.T, images, seen, restored, strict=True):
        masked = np.where(mask, image, 128).astype(np.uint8)
        gray = np.repeat(np.asarray(after).mean(axis=-1, keepdims=True), 3, axis=-1)
        for panel, picture in zip(column, (image, masked, gray), strict=True):
            show(panel, picture)


def show(panel: Axes, image: np.ndarray) -> None:
    """Draws an image without interpolation between its pixels."""
    panel.imshow(image, interpolation="nearest")


def groups(figure: Figure) -> Iterator[np.ndarray]:
    """The panels of each task; the tasks are side by side, each with its title."""
    parts = figure.subfigures(1, len(_COLUMNS), width_ratios=_COLUMNS, wspace=0.02)
    for part, columns, title in zip(parts, _COLUMNS, _TITLES, strict=True):
        part.suptitle(title, fontsize=9)
        panels = part.subplots(_ROWS, columns, squeeze=False)
        for panel in panels.flat:
            panel.set_axis_off()
        yield panels


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    tasks = {
        "detection": draw_detections,
        "segmentation": draw_segmentations,
        "reconstruction": draw_reconstructions,
    }
    for task in tasks:
        parser.add_argument(f"--{task}", type=Path, required=True, help="folder of a run")
    default = Path(__file__).parent / "pictures" / "predictions.png"
    parser.add_argument("--out", type=Path, default=default, help="the png")
    arguments = parser.parse_args()

    figure = Figure(figsize=(12, 3.9), layout="constrained")
    for (task, draw), panels in zip(tasks.items(), groups(figure), strict=True):
        draw(getattr(arguments, task), panels)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out, dpi=120, pil_kwargs={"optimize": True})
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
