"""ViT on the embedded digits, on your own images, and on ImageNet (see `parts.imagenet`)."""

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.recipes.parts.digits import digits
from train.recipes.parts.imagenet import augmented, steps_of
from train.tasks.classification import Classification
from zoo.data import ClassificationData


def vit_digits() -> Config:
    """A small ViT on the embedded digits, from scratch.

        python -m train vit_digits --workdir=DIR

    Takes 95 s on two CPU cores. Top-1 of the last checkpoint on the 540 held-out digits: 99.07,
    99.44 and 98.70% for the seeds 0, 1 and 2.
    """
    return digits("vit_digits", ModelConfig("vit_nano_patch4_32", {"patch_size": 2}))


def vit_b16_finetune() -> Config:
    """ViT-B/16 from a public checkpoint, on a folder of class folders or any TFDS data set.

        python -m train vit_b16_finetune --workdir=DIR --init=CHECKPOINT --data.source=folder:PATH

    Uses SGD with momentum and a cosine schedule as in the ViT paper (arXiv 2010.11929, appendix
    B.1.1), with the batch size and the lower learning rate of "How to train your ViT?" (arXiv
    2106.10270). The larger rates 0.01 and 0.03 can be better for some data. For another model give
    --model.name=NAME. Images are prepared as the checkpoint expects. Not measured here on a public
    checkpoint, because it must be downloaded.
    """
    return Config(
        recipe="vit_b16_finetune",
        model=ModelConfig("vit_base_patch16_224"),
        data=ClassificationData(
            source="folder:images",
            train_split="train",
            eval_split="val",
            image_size=(224, 224),
            mean=None,
            std=None,
            interpolation=None,
            crop_fraction=None,
            crop_mode=None,
            train_crop="random_resized",
            crop_scale=(0.25, 1.0),
            flip=True,
        ),
        task=Classification(),
        optim=OptimConfig(
            name="sgd", learning_rate=3e-3, schedule="cosine", warmup_steps=200, clip_norm=1.0
        ),
        steps=2_000,
        batch_size=128,
        eval_every=500,
        checkpoint_every=500,
    )


def vit_s16_imagenet() -> Config:
    """The plain ViT-S/16 of "Better plain ViT baselines for ImageNet-1k" (arXiv 2205.01580).

    90 epochs. Published, not run here: 76.5% top-1 after 6.5 hours on a TPU v3-8.

        python -m train vit_s16_imagenet --workdir=DIR --data.data_dir=TFDS_DIR

    For 300 epochs: --steps=371588. The settings are from big_vision's `vit_s16_i1k.py`. Weight
    decay is 0.1 here, because ours is multiplied by the learning rate of 1e-3; big_vision's 1e-4 is
    not multiplied.
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
        data=augmented(randaugment_magnitude=10, mixup=0.2),
        task=Classification(),
        optim=OptimConfig(
            learning_rate=1e-3,
            schedule="cosine",
            warmup_steps=10_000,
            weight_decay=0.1,
            clip_norm=1.0,
            moment_dtype="bfloat16",
        ),
        steps=steps_of(90, 1_024),
        batch_size=1_024,
        eval_every=5_000,
        checkpoint_every=1_000,
    )
