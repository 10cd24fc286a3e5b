"""A detector for tests, which finds one object an image: its joints are dots, red, green and blue.

It looks at the pixels, so a keypoint that is lost or moved on the way changes the figures. Its box
is around the joints, and has a mask. Images with such an object, in a folder with COCO's json.
"""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float
from PIL import Image

from zoo import registry
from zoo.family import Family, Variant
from zoo.losses.mean import Mean
from zoo.models.inputs import padded_images
from zoo.outputs import Detections
from zoo.types import Preprocessing

JOINTS = ("nose", "left_eye", "right_eye")  # red, green, blue
BONES = ((0, 1), (0, 2))
CROP = np.linspace(0.1, 0.9, 64, dtype=np.float32).reshape(8, 8)  # of every object's mask


class DotsOutput(struct.PyTreeNode):
    points: Float[Array, "b 3 2"]


class Dots(nn.Module):
    num_classes: int = 1
    num_keypoints: int = 3
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    @nn.compact
    def __call__(self, images, valid=None, *, targets=None, train=False):
        sharpness = self.param("sharpness", nn.initializers.constant(30.0), ())
        colours = [images[..., i] - jnp.delete(images, i, axis=-1).max(-1) for i in range(3)]
        logits = sharpness * jnp.stack(colours, axis=1)  # b 3 h w
        if valid is not None:
            logits = jnp.where(valid[:, None], logits, -1e9)
        weights = jax.nn.softmax(logits, axis=(2, 3))
        y, x = (jnp.arange(side) + 0.5 for side in images.shape[1:3])
        return DotsOutput(jnp.stack([weights.sum(2) @ x, weights.sum(3) @ y], axis=-1))


def decode(output, sizes):
    """The object, and an entry that is not valid."""
    low, high = output.points.min(1), output.points.max(1)
    margin = (high - low) / 4
    boxes = jnp.concatenate([low - margin, high + margin], axis=-1)[:, None]
    keypoints = jnp.concatenate([output.points, jnp.full_like(output.points[..., :1], 3)], axis=-1)
    b, there = len(boxes), jnp.array([True, False])
    return Detections(
        boxes=jnp.tile(boxes, (1, 2, 1)),
        scores=jnp.tile(jnp.where(there, 0.9, 0.99), (b, 1)),
        labels=jnp.zeros((b, 2), jnp.int32),
        valid=jnp.tile(there, (b, 1)),
        mask_crops=jnp.tile(CROP, (b, 2, 1, 1)),
        keypoints=jnp.tile(keypoints[:, None], (1, 2, 1, 1)),
        paste="whole_pixels",
    )


@dataclasses.dataclass(frozen=True)
class DotsLoss:
    weight: float = 0.1

    def __call__(self, output, targets):
        truth = targets.keypoints[:, 0]  # b j 3
        across, down = jnp.moveaxis(abs(output.points - truth[..., :2]) * self.weight, -1, 0)
        labelled = truth[..., 2] > 0
        return {"across": Mean.of(across, labelled), "down": Mean.of(down, labelled)}, {}


HALF = (0.5, 0.5, 0.5)
FAMILY = Family(
    title="Dots",
    summary="for tests",
    module=Dots,
    task="detection",
    paper="",
    reference="",
    inputs=padded_images,
    loss=DotsLoss,
    decode=decode,
    variants={
        "dots_nano": Variant({}, Preprocessing((48, 96), HALF, HALF, interpolation="bilinear"))
    },
)


def register(monkeypatch) -> None:
    """Makes the family known for the time of a test."""
    families = (*registry.FAMILIES, FAMILY)
    monkeypatch.setattr(registry, "FAMILIES", families)
    monkeypatch.setitem(registry.MODELS, "dots_nano", FAMILY)
    __import__("zoo.predict.image")
    monkeypatch.setattr(sys.modules["zoo.predict.image"], "FAMILIES", families)


def draw(seed: int, size: tuple[int, int]):
    """An image with an object, and the object's joints: x, y and visibility."""
    rng = np.random.default_rng(seed)
    height, width = size
    image = rng.integers(90, 110, (height, width, 1), np.uint8).repeat(3, axis=2)
    thirds = rng.permutation(3) * width // 3 + width // 6
    x = thirds + rng.integers(-width // 12, width // 12, 3)
    y = rng.integers(8, height - 8, 3)
    for joint in range(3):
        image[y[joint] - 3 : y[joint] + 3, x[joint] - 3 : x[joint] + 3] = 0
        image[y[joint] - 3 : y[joint] + 3, x[joint] - 3 : x[joint] + 3, joint] = 255
    return image, np.stack([x, y, np.full(3, 2)], axis=1).astype(float)


SIZES = ((96, 120), (120, 80), (64, 90), (60, 200), (77, 131))


def annotation(image: int, joints: np.ndarray, **more) -> dict:
    """An annotated object, as in COCO's json."""
    low, high = joints[:, :2].min(0), joints[:, :2].max(0)
    margin = (high - low) / 4
    box = [*(low - margin), *((high - low) * 1.5)]
    area = float(box[2] * box[3])
    number = {"id": image + 1, "image_id": image, "category_id": 5, "iscrowd": 0}
    joined = {"keypoints": joints.ravel().tolist(), "num_keypoints": int((joints[:, 2] > 0).sum())}
    return {**number, "bbox": list(map(float, box)), "area": area, **joined, **more}


def write(folder: Path) -> Path:
    """Images of several sizes with one object each, the second one turned by its EXIF.

    In the third is a further object without any labelled joint, which nobody can find.
    """
    images, objects = [], []
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
    for i, size in enumerate(SIZES):
        pixels, joints = draw(i, size)
        images.append({"id": i, "file_name": f"{i}.png", "height": size[0], "width": size[1]})
        objects.append(annotation(i, joints))
        picture, exif = Image.fromarray(pixels), Image.Exif()
        if i == 1:
            exif[0x0112] = 6  # to see it upright, turn it to the right
            picture = picture.transpose(Image.Transpose.ROTATE_90)
        for split in ("train", "val"):
            picture.save(folder / split / f"{i}.png", exif=exif)
    objects.append(annotation(2, np.zeros((3, 3)), id=99, bbox=[1, 2, 30, 40], area=1200.0))
    category = {"id": 5, "name": "dots", "keypoints": JOINTS}
    category["skeleton"] = [[a + 1, b + 1] for a, b in BONES]
    file = {"images": images, "annotations": objects, "categories": [category]}
    (folder / "annotations").mkdir()
    for split in ("train", "val"):
        path = folder / "annotations" / f"person_keypoints_{split}.json"
        path.write_text(json.dumps(file))
    return folder
