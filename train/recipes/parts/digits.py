"""The embedded handwritten digits: 1,257 real 8 x 8 scans for training, 540 held out."""

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.tasks.classification import Classification
from zoo.data import ClassificationData


def digits(recipe: str, model: ModelConfig) -> Config:
    """The configuration of a small classifier that is trained on the digits from scratch."""
    return Config(
        recipe=recipe,
        model=model,
        data=ClassificationData(
            source="digits",
            train_crop="random_resized",
            crop_scale=(0.8, 1.0),
            mixup=0.2,
            threads=2,
        ),
        task=Classification(),
        optim=OptimConfig(
            learning_rate=2e-3, warmup_steps=100, weight_decay=0.05, b2=0.99, clip_norm=1.0
        ),
        steps=2_000,
        batch_size=64,
        log_every=50,
        eval_every=500,
        checkpoint_every=500,
    )
