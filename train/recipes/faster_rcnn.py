"""Faster R-CNN (arXiv 1506.01497) on embedded scenes of digits, and on your own COCO json."""

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.tasks.detection import Detection
from zoo.data import DetectionData
from zoo.models.detection.parts.losses import TwoStageLoss


def fasterrcnn_digit_scenes() -> Config:
    """A small Faster R-CNN on embedded scenes of one to six real digits, from scratch.

        python -m train fasterrcnn_digit_scenes --workdir=DIR
    """
    return Config(
        recipe="fasterrcnn_digit_scenes",
        model=ModelConfig("fasterrcnn_nano"),
        data=DetectionData(train_split="train[:500000]", threads=2),
        task=Detection(TwoStageLoss()),
        optim=OptimConfig(
            name="muon",
            learning_rate=5e-3,
            warmup_steps=100,
            weight_decay=0.02,
            b2=0.99,
            clip_norm=10.0,
        ),
        steps=2_500,
        batch_size=32,
        log_every=50,
        eval_every=1_250,
        checkpoint_every=1_000,
        ema=0.999,
    )
