"""Semantic segmentation with U-Nets."""

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.tasks.segmentation import Segmentation
from zoo.data import SegmentationData


def unet_digit_scenes() -> Config:
    """A small U-Net on the embedded digit scenes (background and ten digits), from scratch.

        python -m train unet_digit_scenes --workdir=DIR

    mIoU 0.8511 (11 classes) of the last checkpoint on the 500 held-out scenes, after 11 minutes
    35 s on two CPU cores, with GLIBC_TUNABLES=glibc.malloc.hugetlb=1. On these scenes a wider model
    helps more than a deeper one, and many small batches help more than few large ones. The paper's
    elastic deformation is not used: with it (``--data.elastic=3``) mIoU was 0.808.
    """
    return Config(
        recipe="unet_digit_scenes",
        model=ModelConfig("unet_nano", {"dropout": 0.1}),
        data=SegmentationData(source="digit_scenes", train_split="train[:500000]", threads=2),
        task=Segmentation(),
        optim=OptimConfig(
            name="muon",
            learning_rate=1e-2,
            warmup_steps=200,
            weight_decay=0.02,
            b2=0.99,
            clip_norm=1.0,
        ),
        steps=4_800,
        batch_size=8,
        log_every=100,
        eval_every=1_200,
        checkpoint_every=1_200,
        ema=0.999,
    )


def unet_oxford_pets() -> Config:
    """A U-Net with a ResNet-34 backbone on Oxford-IIIT Pet: pet, background and border.

        python -m zoo.data.prepare oxford_iiit_pet --data_dir=DATA
        python -m train unet_oxford_pets --workdir=DIR --data.data_dir=DATA

    Starts from scratch, or with --init=FILE from weights of segmentation_models_pytorch. Not run
    here, because the data must be downloaded.
    """
    return Config(
        recipe="unet_oxford_pets",
        model=ModelConfig("unet_resnet34"),
        data=SegmentationData(
            source="oxford_iiit_pet",
            train_split="train",
            eval_split="test",
            image_size=(256, 256),
            scale=(0.5, 1.25),
            flip=True,
        ),
        task=Segmentation(),
        optim=OptimConfig(learning_rate=1e-3, warmup_steps=200, weight_decay=0.05, clip_norm=1.0),
        steps=10_000,
        batch_size=32,
        eval_every=1_000,
        checkpoint_every=1_000,
    )


def unet_folder() -> Config:
    """A U-Net on your own images and masks.

        python -m train.doctor unet_folder --data.source=folder:PATH
        python -m train unet_folder --workdir=DIR --data.source=folder:PATH

    The images are in PATH/train/images, masks with the same names in PATH/train/masks. PATH/val has
    the same folders, and PATH/classes.txt the names of the classes: see
    `zoo.data.SegmentationData`. Uses the elastic deformation of the U-Net paper. For the border
    weights of the paper give --data.border_weight=10; for its convolutions without padding give
    --model.name=unet --data.image_size=572,572 --data.mirror=92.
    """
    return Config(
        recipe="unet_folder",
        model=ModelConfig("unet_same", {"base_dim": 32}),
        data=SegmentationData(
            source="folder:data",
            train_split="train",
            eval_split="val",
            image_size=(256, 256),
            scale=(0.75, 1.5),
            flip=True,
            elastic=5.0,
        ),
        task=Segmentation(),
        optim=OptimConfig(learning_rate=1e-3, warmup_steps=200, weight_decay=0.05, clip_norm=1.0),
        steps=5_000,
        batch_size=16,
        eval_every=500,
        checkpoint_every=500,
    )
