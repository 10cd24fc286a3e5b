"""Semantic segmentation by U-Nets."""

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.tasks.segmentation import Segmentation
from zoo.data import SegmentationData


def unet_digit_scenes() -> Config:
    """A small U-Net on the embedded digit scenes: the ground and ten digits, from scratch.

        python -m train unet_digit_scenes --workdir=DIR

    mIoU 0.8511 (11 classes) of the last checkpoint on the 500 held-out scenes, after 11 minutes
    35 s on two CPU cores, with GLIBC_TUNABLES=glibc.malloc.hugetlb=1. Width matters more than depth
    here, and many small batches more than few large ones. The paper's elastic deformation is left
    out: with it (``--data.elastic=3``) mIoU was 0.808.
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
    """A U-Net on ResNet-34 on Oxford-IIIT Pet: the pet, the background, the border between.

        python -m zoo.data.prepare oxford_iiit_pet --data_dir=DATA
        python -m train unet_oxford_pets --workdir=DIR --data.data_dir=DATA

    From scratch, or with --init=FILE from weights of segmentation_models_pytorch. Not run here: the
    data cannot be had without a network.
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
    """A U-Net on one's own images and masks.

        python -m train.doctor unet_folder --data.source=folder:PATH
        python -m train unet_folder --workdir=DIR --data.source=folder:PATH

    Images in PATH/train/images, masks of the same names in PATH/train/masks, the same below
    PATH/val, and the names of the classes in PATH/classes.txt: see `zoo.data.SegmentationData`.
    With the U-Net paper's deformation. Its border weights are --data.border_weight=10, its valid
    convolutions --model.name=unet --data.image_size=572,572 --data.mirror=92.
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
