"""R-CNN (arXiv 1311.2524) on embedded scenes of digits."""

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.recipes.parts.scenes import PROPOSED_SCENES
from train.tasks.detection import Detection
from zoo.models.detection.parts.region_loss import RegionLoss


def rcnn_digit_scenes() -> Config:
    """A small R-CNN on embedded scenes of one to six real digits, from scratch.

        python -m train rcnn_digit_scenes --workdir=DIR
        python -m train.svms --workdir=DIR --images=1000
        python -m eval.detection --workdir=DIR/svms

    On the 500 held-out scenes AP 0.611, AP50 0.864 and AP75 0.729 with the softmax, which does not
    refine the boxes; with SVMs and box regressions from 1,000 scenes 0.621, 0.868 and 0.781. As in
    the paper, 32 positive and 96 other regions are in a batch. The run takes 4.4 minutes of CPU
    time, and the SVMs 1.8, with GLIBC_TUNABLES=glibc.malloc.hugetlb=1 in the environment; the two
    CPU cores were shared with much other work.

    Selective search proposes up to 100 regions of a scene, on average 66; 0.967 of the digits of
    the held-out scenes overlap one of them with an IoU of at least 0.5, and 0.896 with 0.7. It
    takes 0.024 s of CPU time for a scene, once for all runs on these scenes.

    How long finding the digits of a scene takes, in milliseconds of one CPU core, medians of the
    same 20 batches of 8 scenes:

        python -m eval.detection_time RCNN SPPNET FASTRCNN --images=160

        R-CNN        29.0
        SPP-net       6.4
        Fast R-CNN    2.3
        and of each, if it has to be done, selective search: about 34

    So Fast R-CNN is 13 times as fast as R-CNN, without the proposals, and 1.7 times with them.
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
