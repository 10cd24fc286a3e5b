"""ImageNet-1k from scratch, with the settings of big_vision's recipes.

The best checkpoint is selected on the last percent of the training images, which big_vision calls
"minival". The figure to report is the one on the validation set, computed after training:

    python -m eval.classification --workdir=DIR --split=validation

Deviations from big_vision in both recipes:

- The training crop draws its box as torchvision does: area and logarithm of the aspect are uniform.
  TensorFlow draws the aspect and the height uniformly. Boxes at least twice as large as the result
  are averaged, which big_vision does not do. Large JPEGs are decoded at a fraction of their size.
- Evaluation resizes to 256 px with Pillow's antialiased bilinear filter, big_vision with "area".
- RandAugment: see `zoo.data.augment.randaugment`.
- Mixup pairs example i with b - 1 - i, and draws one share a for the batch over all devices.
  big_vision pairs neighbours, and draws one share for each device. big_vision uses the larger of a
  and 1 - a; here that would only exchange the two examples of each pair.
- GELU is exact, not the tanh approximation. The forward and backward pass run in bfloat16.
- Each epoch is a full permutation, not a shuffle buffer of 250,000 examples.
"""

from zoo.data import ClassificationData

_TRAIN_IMAGES = 1_268_355  # train[:99%] of 1,281,167


def steps_of(epochs: int, batch_size: int) -> int:
    """The number of steps for a number of epochs over the first 99% of the training images."""
    return round(epochs * _TRAIN_IMAGES / batch_size)


def augmented(randaugment_magnitude: float, mixup: float) -> ClassificationData:
    """Inception crop, flip and RandAugment; evaluation resizes to 256 px and crops 224 px."""
    return ClassificationData(
        source="imagenet2012",
        train_split="train[:99%]",
        eval_split="train[99%:]",
        image_size=(224, 224),
        interpolation="bilinear",
        crop_fraction=0.875,
        train_crop="random_resized",
        crop_scale=(0.05, 1.0),
        crop_ratio=(0.75, 1.33),
        flip=True,
        randaugment_layers=2,
        randaugment_style="big_vision",
        randaugment_magnitude=randaugment_magnitude,
        mixup=mixup,
    )
