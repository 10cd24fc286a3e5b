"""MLP-Mixer on the embedded digits, and on ImageNet (see `parts.imagenet`)."""

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.recipes.parts.digits import digits
from train.recipes.parts.imagenet import augmented, steps_of
from train.tasks.classification import Classification


def mixer_digits() -> Config:
    """A small MLP-Mixer on the embedded digits, from scratch.

        python -m train mixer_digits --workdir=DIR

    Takes 85 s on two CPU cores. Top-1 of the last checkpoint on the 540 held-out digits: 99.26,
    99.63 and 99.26% for the seeds 0, 1 and 2.
    """
    return digits("mixer_digits", ModelConfig("mixer_nano_patch4_32", {"patch_size": 2}))


def mixer_b16_imagenet() -> Config:
    """MLP-Mixer-B/16 (arXiv 2105.01601) from scratch, as in big_vision's `mlp_mixer_i1k.py`.

    300 epochs. Published, not run here: 76.3% top-1 after 2.2 hours on a TPU v3-128.

        python -m train mixer_b16_imagenet --workdir=DIR --data.data_dir=TFDS_DIR

    Weight decay is 0.1 here, because ours is multiplied by the learning rate of 1e-3; big_vision's
    1e-4 is not multiplied. Drop path rescales the branches that it keeps, which big_vision does not
    do. The kernels of the MLPs are initialised by Xavier's distribution instead of LeCun's.
    """
    return Config(
        recipe="mixer_b16_imagenet",
        model=ModelConfig(
            "mixer_b16_224", {"drop_path": 0.1, "head_bias": -6.9, "dtype": "bfloat16"}
        ),
        data=augmented(randaugment_magnitude=15, mixup=0.5),
        task=Classification(loss_name="sigmoid"),
        optim=OptimConfig(
            learning_rate=1e-3,
            schedule="linear",
            warmup_steps=10_000,
            final_fraction=1e-5,
            weight_decay=0.1,
            clip_norm=1.0,
        ),
        steps=steps_of(300, 4_096),
        batch_size=4_096,
        eval_every=2_500,
        checkpoint_every=1_000,
    )
