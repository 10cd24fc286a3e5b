"""R-CNN (arXiv 1311.2524) on embedded scenes of digits."""

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.recipes.parts.scenes import PROPOSED_SCENES
from train.tasks.detection import Detection
from zoo.models.detection.parts.region_loss import RegionLoss


def rcnn_digit_scenes() -> Config:
    """A small R-CNN on embedded scenes of one to six real digits, from scratch.

    python -m train rcnn_digit_scenes --workdir=DIR
    python -m train.svms --workdir=DIR
    python -m eval.detection --workdir=DIR/svms
    """
    return Config(
        recipe="rcnn_digit_scenes",
        model=ModelConfig("rcnn_nano"),
        data=PROPOSED_SCENES,
        task=Detection(RegionLoss()),
        optim=OptimConfig(
            name="muon",
            learning_rate=5e-3,
            warmup_steps=50,
            weight_decay=0.02,
            b2=0.99,
            clip_norm=10.0,
        ),
        steps=800,
        batch_size=16,
        log_every=50,
        eval_every=800,
        checkpoint_every=400,
        ema=0.99,
    )
