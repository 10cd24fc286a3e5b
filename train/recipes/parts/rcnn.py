"""Settings of two-stage detectors: small ones on the embedded digit scenes, and fine-tuning."""

from typing import Any

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.tasks.detection import Detection
from zoo.data import DetectionData


def rcnn_digit_scenes(recipe: str, model: str, loss: Any, **data: Any) -> Config:
    """The configuration of a small detector that is trained on digit scenes from scratch."""
    return Config(
        recipe=recipe,
        model=ModelConfig(model),
        data=DetectionData(train_split="train[:500000]", threads=2, **data),
        task=Detection(loss),
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
        checkpoint_every=500,
        ema=0.999,
    )


def rcnn_finetune(recipe: str, model: str, loss: Any, **data: Any) -> Config:
    """The configuration that fine-tunes a public detector with a ResNet on a COCO json.

    The optimiser and the sizes of the images are torchvision's, for a quarter of its batch; the
    stem and the first stage are frozen, as there. Images are flipped, and their shorter side is
    drawn, as in detectron2.
    """
    return Config(
        recipe=recipe,
        model=ModelConfig(model),
        data=DetectionData(
            source="coco:data",
            train_split="train",
            eval_split="val",
            buckets=((800, 1088), (1088, 800), (800, 1344), (1344, 800)),
            mean=None,
            std=None,
            max_objects=100,
            short_sides=(640, 672, 704, 736, 768, 800),
            flip=True,
            **data,
        ),
        task=Detection(loss),
        optim=OptimConfig(
            name="sgd",
            learning_rate=5e-3,
            schedule="step",
            drop_at=0.8,
            warmup_steps=500,
            weight_decay=1e-4,
            multipliers={"body/stem_*": 0.0, "body/stages_0_*": 0.0},
        ),
        steps=5_000,
        batch_size=4,
        log_every=50,
        eval_every=500,
        checkpoint_every=500,
    )
