"""Handwritten digits: 1,797 real scans of 8 x 8 pixels, ten classes.

The images are the test part of UCI's "Optical Recognition of Handwritten Digits" as scikit-learn
ships it, so preparing them needs no network. The test split is a fixed random selection of 540.
"""

import functools
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int, UInt8
from PIL import Image

NUM_TEST = 540


def split_indices() -> dict[str, np.ndarray]:
    """Indices of scikit-learn's scans in each split, ascending."""
    # numpy guarantees that RandomState's numbers never change; default_rng's may.
    order = np.random.RandomState(0).permutation(1797)
    return {"train": np.sort(order[NUM_TEST:]), "test": np.sort(order[:NUM_TEST])}


@functools.cache
def scans() -> tuple[UInt8[np.ndarray, "n 8 8"], Int[np.ndarray, " n"]]:
    """All scans, with ink 255 and paper 0, and their labels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # from 0..16
    return pixels, labels


class Digits(tfds.core.GeneratorBasedBuilder):
    """Splits ``train`` (1,257) and ``test`` (540) of {image: 8 x 8 gray, label: 0..9}."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="scikit-learn's 1,797 handwritten digits of 8 x 8 pixels.",
            homepage="https://archive.ics.uci.edu/dataset/80",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        return {name: self._generate_examples(chosen) for name, chosen in split_indices().items()}

    def _generate_examples(self, indices: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        pixels, labels = scans()
        for index in indices:
            png = io.BytesIO()
            Image.fromarray(pixels[index]).save(png, "PNG")
            png.seek(0)
            yield int(index), {"image": png, "label": int(labels[index])}
