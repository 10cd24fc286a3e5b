"""Handwritten digits: 1,797 real scans of 8 x 8 pixels, ten classes.

The images are the test part of UCI's "Optical Recognition of Handwritten Digits" as scikit-learn
ships it, so preparing them needs no network. A fixed random 540 of them are the test split.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

NUM_TEST = 540


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
        # RandomState's stream is frozen by numpy's policy; default_rng's is not.
        order = np.random.RandomState(0).permutation(1797)
        test, train = order[:NUM_TEST], order[NUM_TEST:]
        return {"train": self._generate_examples(train), "test": self._generate_examples(test)}

    def _generate_examples(self, indices: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        pixels = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # from 0..16
        for index in sorted(indices):
            png = io.BytesIO()
            Image.fromarray(pixels[index]).save(png, "PNG")
            png.seek(0)
            yield int(index), {"image": png, "label": int(labels[index])}
