"""The Transformer on number words, on WMT 2014, and on your own pairs of texts."""

from train.config import Config, ModelConfig
from train.optim import OptimConfig
from train.tasks.translation import Translation
from zoo.data import TranslationData


def transformer_number_words() -> Config:
    """A small Transformer from English to German number words, from scratch.

        python -m train transformer_number_words --workdir=DIR

    Exact match 1.000 on 1,000 held-out numbers, after 4 minutes 38 s on two CPU cores that also had
    other work (4 minutes of CPU time).
    """
    return Config(
        recipe="transformer_number_words",
        model=ModelConfig("transformer_nano"),
        data=TranslationData(),
        task=Translation(),
        optim=OptimConfig(learning_rate=2e-3, warmup_steps=150, b2=0.98, eps=1e-9),
        steps=800,
        batch_size=32,  # 1,536 source and 1,536 target tokens
        keep=5,
        log_every=50,
        eval_every=400,
        checkpoint_every=50,
    )


def transformer_wmt14_en_de() -> Config:
    """The base Transformer of "Attention Is All You Need" on WMT 2014 English to German.

    100,000 steps. Published, not run here: BLEU 27.3 on newstest2014 after 12 hours on 8 P100
    GPUs, with the mean of the last 5 checkpoints, 4 beams and length penalty 0.6.

        python -m zoo.data.prepare wmt14_translate/de-en --data_dir=TFDS_DIR
        python -m train transformer_wmt14_en_de --workdir=DIR --data.data_dir=TFDS_DIR
        python -m eval.translation --workdir=DIR --average=5 --split=test

    For the big model, published with BLEU 28.4 after 3.5 days: --model.name=transformer_big
    --steps=300000 --optim.learning_rate=4.94e-4.

    Deviations: tokens are byte-level pairs instead of tensor2tensor's word pieces. The score of a
    sequence is divided by length ** 0.6, not by ((5 + length) / 6) ** 0.6. BLEU is sacrebleu's, of
    plain text, which is up to a point lower than the paper's BLEU of tokenised text.
    """
    return Config(
        recipe="transformer_wmt14_en_de",
        model=ModelConfig("transformer_base", {"dtype": "bfloat16"}),
        data=TranslationData(
            source="wmt14_translate/de-en",
            eval_split="validation",
            vocab_size=37_000,
            buckets=(16, 24, 32, 48, 64, 96, 128, 256),
            bundle_tokens=256,
        ),
        task=Translation(),
        optim=OptimConfig(  # 512 ** -0.5 * 4,000 ** -0.5 after the warm-up
            learning_rate=6.99e-4, schedule="rsqrt", warmup_steps=4_000, b2=0.98, eps=1e-9
        ),
        steps=100_000,
        batch_size=96,  # 24,576 source and 24,576 target tokens
        keep=5,
        log_every=100,
        eval_every=5_000,
        checkpoint_every=1_000,
    )


def transformer_pairs() -> Config:
    """A small Transformer on your own pairs of texts, from scratch.

    FILE has lines ``text TAB translation``, of which one in twenty is held out; or it is a folder
    with train.tsv and test.tsv. Not measured, because the result depends on the pairs.

        python -m train transformer_pairs --workdir=DIR --data.source=pairs:FILE
    """
    fields = {"hidden_dim": 256, "mlp_dim": 1_024, "num_encoder_layers": 4, "num_decoder_layers": 4}
    return Config(
        recipe="transformer_pairs",
        model=ModelConfig("transformer_nano", fields),
        data=_own_pairs(),
        task=Translation(),
        optim=OptimConfig(
            learning_rate=1e-3, schedule="rsqrt", warmup_steps=2_000, b2=0.98, eps=1e-9
        ),
        steps=20_000,
        batch_size=64,
        keep=5,
        log_every=100,
        eval_every=1_000,
        checkpoint_every=1_000,
    )


def marian_finetune() -> Config:
    r"""A public translator of Helsinki-NLP, fine-tuned on your own pairs of texts.

    Not measured here on a public checkpoint, because it must be downloaded. FOLDER has the weights
    of the translator, config.json, source.spm, target.spm and vocab.json.

        python -m train marian_finetune --workdir=DIR --init=FOLDER --data.tokenizer=FOLDER \
            --data.source=pairs:FILE
    """
    return Config(
        recipe="marian_finetune",
        model=ModelConfig("marian"),
        data=_own_pairs(),
        task=Translation(),
        optim=OptimConfig(learning_rate=2e-5, schedule="linear", warmup_steps=200, clip_norm=1.0),
        steps=2_000,
        batch_size=16,
        log_every=50,
        eval_every=500,
        checkpoint_every=500,
    )


def _own_pairs() -> TranslationData:
    return TranslationData(
        source="pairs:pairs.tsv",
        vocab_size=8_000,
        buckets=(16, 24, 32, 48, 64, 96, 128),
        bundle_tokens=128,
    )
