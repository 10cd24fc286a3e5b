"""ImageNet-1k from scratch, by big_vision's recipes for it.

The best checkpoint is chosen on the last percent of the training images, big_vision's "minival".
The figure to report is that on the validation set, afterwards:

    python -m eval.classification --workdir=DIR --split=validation

What still deviates from big_vision in both recipes:

- The training crop draws its box as torchvision does: area and logarithm of the aspect are uniform.
  TensorFlow draws the aspect and the height uniformly. Boxes at least twice as large as the result
  are averaged, which big_vision does not do; large JPEGs are decoded at a fraction of their size.
- Evaluation resizes to 256 px with Pillow's antialiased bilinear filter, big_vision with "area".
- RandAugment: see `zoo.data.randaugment`.
- Mixup pairs example i with b - 1 - i, and draws one share for the batch over all devices;
  big_vision pairs neighbours, and draws one for each device. Its share is the larger of a and
  1 - a; here that would only exchange the two of each pair.
- GELU is exact, not the tanh approximation; the forward and backward pass run in bfloat16.
- Each epoch is a full permutation, not a shuffle buffer of 250,000 examples.
"""

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.tasks.classification import Classification
from zoo.data import ClassificationData

_TRAIN_IMAGES = 1_268_355  # train[:99%] of 1,281,167


def _steps(epochs: int, batch_size: int) -> int:
    return round(epochs * _TRAIN_IMAGES / batch_size)


def _data(randaugment_magnitude: float, mixup: float) -> ClassificationData:
    """Inception crop, flip, RandAugment, and at evaluation 256 px with a centre crop of 224."""
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


def vit_s16_imagenet() -> Config:
    """The plain ViT-S/16 of "Better plain ViT baselines for ImageNet-1k" (arXiv 2205.01580).

    90 epochs. Published, not run here: 76.5% top-1 after 6.5 hours on a TPU v3-8.

        python -m train vit_s16_imagenet --workdir=DIR --data.data_dir=TFDS_DIR

    For 300 epochs: --steps=371588. From big_vision's `vit_s16_i1k.py`, whose weight decay of 1e-4
    is not multiplied by the learning rate of 1e-3; ours is, hence 0.1.
    """
    fields = {
        "pool": "mean",
        "class_token": False,
        "positions": "sincos2d",
        "representation_dim": 384,
        "dtype": "bfloat16",
    }
    return Config(
        recipe="vit_s16_imagenet",
        model=ModelConfig("vit_small_patch16_224", fields),
        data=_data(randaugment_magnitude=10, mixup=0.2),
        task=Classification(),
        optim=OptimConfig(
            learning_rate=1e-3,
            schedule="cosine",
            warmup_steps=10_000,
            weight_decay=0.1,
            clip_norm=1.0,
            moment_dtype="bfloat16",
        ),
        steps=_steps(90, 1_024),
        batch_size=1_024,
        eval_every=5_000,
        checkpoint_every=1_000,
    )


def mixer_b16_imagenet() -> Config:
    """MLP-Mixer-B/16 from scratch, by big_vision's `mlp_mixer_i1k.py` (arXiv 2105.01601).

    300 epochs. Published, not run here: 76.3% top-1 after 2.2 hours on a TPU v3-128.

        python -m train mixer_b16_imagenet --workdir=DIR --data.data_dir=TFDS_DIR

    big_vision's weight decay of 1e-4 is not multiplied by the learning rate of 1e-3; ours is, hence
    0.1. Drop path rescales what it keeps, which big_vision's does not, and the MLPs' kernels start
    from Xavier's distribution instead of LeCun's.
    """
    return Config(
        recipe="mixer_b16_imagenet",
        model=ModelConfig(
            "mixer_b16_224", {"drop_path": 0.1, "head_bias": -6.9, "dtype": "bfloat16"}
        ),
        data=_data(randaugment_magnitude=15, mixup=0.5),
        task=Classification(loss_name="sigmoid"),
        optim=OptimConfig(
            learning_rate=1e-3,
            schedule="linear",
            warmup_steps=10_000,
            final_fraction=1e-5,
            weight_decay=0.1,
            clip_norm=1.0,
        ),
        steps=_steps(300, 4_096),
        batch_size=4_096,
        eval_every=2_500,
        checkpoint_every=1_000,
    )
