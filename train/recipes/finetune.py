"""Fine-tuning a public checkpoint on one's own images."""

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.tasks.classification import Classification
from zoo.data import ClassificationData


def vit_b16_finetune() -> Config:
    """ViT-B/16 from a public checkpoint, on a folder of class folders or any TFDS set.

        python -m train vit_b16_finetune --workdir=DIR --init=CHECKPOINT --data.source=folder:PATH

    SGD with momentum and a cosine as in the ViT paper (arXiv 2010.11929, appendix B.1.1), at the
    batch and the lower rate of "How to train your ViT?" (arXiv 2106.10270); larger rates of 0.01
    and 0.03 are worth a try. Other models: --model.name=NAME. Not measured here on a public
    checkpoint: none can be had without a network.
    """
    return Config(
        recipe="vit_b16_finetune",
        model=ModelConfig("vit_base_patch16_224"),
        data=ClassificationData(
            source="folder:images",
            train_split="train",
            eval_split="val",
            image_size=(224, 224),
            interpolation="bicubic",
            crop_fraction=0.9,
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
