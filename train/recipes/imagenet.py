"""ImageNet-1k from scratch, by big_vision's recipes for it."""

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.tasks.classification import Classification
from zoo.data import ClassificationData

_TRAIN_IMAGES = 1_268_355  # train[:99%] of 1,281,167


def _data(randaugment_magnitude: float, mixup: float) -> ClassificationData:
    """Inception crop, flip, RandAugment, and at evaluation 256 px with a centre crop of 224."""
    return ClassificationData(
        source="imagenet2012",
        train_split="train[:99%]",
        eval_split="validation",
        image_size=(224, 224),
        interpolation="bilinear",
        crop_fraction=0.875,
        train_crop="random_resized",
        crop_scale=(0.05, 1.0),
        flip=True,
        randaugment_layers=2,
        randaugment_magnitude=randaugment_magnitude,
        mixup=mixup,
    )


def vit_s16_imagenet() -> Config:
    """The plain ViT-S/16 of "Better plain ViT baselines for ImageNet-1k" (arXiv 2205.01580).

    90 epochs; the paper has 76.5% top-1 after 6.5 hours on a TPU v3-8. Not run here.

        python -m train vit_s16_imagenet --workdir=DIR --data.data_dir=TFDS_DIR

    For 300 epochs: --steps=371589. From big_vision's `vit_s16_i1k.py`, whose weight decay of 1e-4
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
        steps=90 * _TRAIN_IMAGES // 1_024,
        batch_size=1_024,
        eval_every=5_000,
        checkpoint_every=1_000,
    )


def mixer_b16_imagenet() -> Config:
    """MLP-Mixer-B/16 from scratch, by big_vision's `mlp_mixer_i1k.py` (arXiv 2105.01601).

    300 epochs; big_vision has 76.3% top-1 after 2.2 hours on a TPU v3-128. Not run here.

        python -m train mixer_b16_imagenet --workdir=DIR --data.data_dir=TFDS_DIR

    big_vision's weight decay of 1e-4 is not multiplied by the learning rate of 1e-3; ours is, hence
    0.1.
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
            final_fraction=1e-2,
            weight_decay=0.1,
            clip_norm=1.0,
        ),
        steps=300 * _TRAIN_IMAGES // 4_096,
        batch_size=4_096,
        eval_every=2_500,
        checkpoint_every=1_000,
    )
