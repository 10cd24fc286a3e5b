"""The Transformer, from number words to WMT."""

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.tasks.translation import Translation
from zoo.data import TranslationData


def transformer_number_words() -> Config:
    """A small Transformer from English number words to German ones, from scratch.

    python -m train transformer_number_words --workdir=DIR
    """
    return Config(
        recipe="transformer_number_words",
        model=ModelConfig("transformer_nano"),
        data=TranslationData(),
        task=Translation(),
        optim=OptimConfig(
            learning_rate=2e-3, schedule="rsqrt", warmup_steps=400, b2=0.98, eps=1e-9
        ),
        steps=4_000,
        batch_size=64,
        keep=5,
        log_every=100,
        eval_every=1_000,
        checkpoint_every=200,
    )
