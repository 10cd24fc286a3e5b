"""Goldens of the Transformer, made by torch.nn.Transformer and Marian of transformers."""

import tempfile

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file

from peers.draws import randomise, write

# Beams, length penalty, early stopping.
SEARCHES = (
    (1, 1.0, False),
    (4, 1.0, False),
    (4, 1.0, True),
    (4, 0.6, False),
    (4, 2.0, True),
    (4, -0.5, False),
    (2, 0.0, False),
)


class TextTransformer(torch.nn.Module):
    """`torch.nn.Transformer` without final norms; embedding, positions and logits of the paper."""

    def __init__(self, vocab: int, dim: int, heads: int, layers: int, mlp_dim: int, **options):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocab, dim)
        self.transformer = torch.nn.Transformer(
            dim, heads, layers, layers, mlp_dim, batch_first=True, **options
        )
        self.transformer.encoder.norm = self.transformer.decoder.norm = None

    def embed(self, tokens):
        dim = self.embedding.embedding_dim
        angles = np.arange(tokens.shape[1])[:, None] / 10_000 ** (np.arange(0, dim, 2) / dim)
        pairs = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(-1, dim)
        return self.embedding(tokens) * dim**0.5 + torch.tensor(pairs, dtype=torch.float32)

    def forward(self, sources, targets, sources_valid, targets_valid):
        hidden = self.transformer(
            self.embed(sources),
            self.embed(targets),
            tgt_mask=torch.ones(targets.shape[1], targets.shape[1]).tril() == 0,
            src_key_padding_mask=~sources_valid,
            memory_key_padding_mask=~sources_valid,
            tgt_key_padding_mask=~targets_valid,
        )
        return hidden @ self.embedding.weight.T


def marian_model(vocab: int, dim: int, heads: int, layers: int, mlp_dim: int, **options):
    """A Marian translator like those of Helsinki-NLP: with swish and scaled embeddings."""
    config = transformers.MarianConfig(
        vocab_size=vocab,
        d_model=dim,
        **{f"{side}_layers": layers for side in ("encoder", "decoder")},
        **{f"{side}_attention_heads": heads for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": mlp_dim for side in ("encoder", "decoder")},
        activation_function="swish",
        scale_embedding=True,
        **{"pad_token_id": vocab - 1, "decoder_start_token_id": vocab - 1, **options},
    )
    return transformers.MarianMTModel(config)


def models() -> dict[str, torch.nn.Module]:
    """The peer's model for each of our names; their parameters are counted, without positions."""
    marian = marian_model(58_101, 512, 8, 6, 2048)
    del marian.model.encoder.embed_positions, marian.model.decoder.embed_positions
    return {
        "transformer_nano": TextTransformer(256, 128, 4, 2, 512),
        "transformer_base": TextTransformer(37_000, 512, 8, 6, 2048),
        "transformer_big": TextTransformer(37_000, 1024, 16, 6, 4096),
        "marian": marian,
    }


def texts(vocab: int) -> dict[str, torch.Tensor]:
    """Random sources and targets of several lengths, padded with the last token."""
    arrays = {}
    for name, lengths in (("sources", (9, 4, 7, 1, 6)), ("targets", (6, 8, 3, 8, 7))):
        valid = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        tokens = torch.randint(1, vocab - 1, valid.shape).where(valid, vocab - 1)
        arrays |= {name: tokens, f"{name}_valid": valid}
    return arrays


def goldens() -> None:
    """Logits and searches of Marian; logits of `torch.nn.Transformer`, post- and pre-norm."""
    sizes = {"vocab_size": 24, "hidden_dim": 16, "num_heads": 2, "mlp_dim": 32}
    sizes |= {"num_encoder_layers": 2, "num_decoder_layers": 2}
    model = marian_model(24, 16, 2, 2, 32, attn_implementation="eager")
    torch.manual_seed(2)  # with this seed the generated sequences differ clearly
    batch = texts(24)
    with torch.no_grad():
        arrays = marian_outputs(model, batch)

    def write_case(case: str, name: str, fields: dict, arrays: dict) -> None:
        order = ("sources", "targets", "sources_valid", "targets_valid")
        weights = {k.removeprefix("weights/"): x for k, x in arrays.items() if "weights/" in k}
        write(
            f"transformer_{case}",
            {"name": name, "fields": {**sizes, **fields}, "source": case.partition("_")[0]},
            {key: batch[key] for key in order},
            {key: x for key, x in arrays.items() if "weights/" not in key},
            weights,
            tolerance=2e-5,
            where="targets_valid",
        )

    fields = {"activation": "silu", "positions": "halves", "logits_bias": True}
    write_case("huggingface", "marian", fields, arrays)
    for case, options, fields in (
        ("post_norm", {}, {}),
        ("pre_norm", {"norm_first": True, "activation": "gelu"}, {"activation": "gelu"}),
    ):
        model = TextTransformer(24, 16, 2, 2, 32, **options)
        if options:
            for side in (model.transformer.encoder, model.transformer.decoder):
                side.norm = torch.nn.LayerNorm(16)
        randomise(model)
        weights = {f"weights/{name}": x for name, x in model.state_dict().items()}
        with torch.no_grad():
            logits = model(**batch)
        fields = {**fields, "pre_norm": bool(options)}
        arrays = {"logits": logits, **weights}
        write_case(f"torch_{case}", "transformer_nano", fields, arrays)


def marian_outputs(model, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Draws the weights of a model; gives the weights in its file, its logits and its searches.

    With plain random weights the model repeats one token for ever; these weights prevent it.
    """
    randomise(model)
    for side in (model.model.encoder, model.model.decoder):
        side.embed_positions.weight.copy_(side.embed_positions.create_weight())
    last = model.model.decoder.layers[-1].final_layer_norm.weight
    for name, tensor in model.named_parameters():
        if "layer_norm.weight" in name and tensor is not last:
            tensor.add_(1)
        elif ".layers." in name and tensor.ndim == 2:
            tensor.mul_(2)
    last.mul_(24)
    model.final_logits_bias[0, 0] = 2.0  # of the end token
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        weights = load_file(f"{folder}/model.safetensors")
    sources = {"attention_mask": batch["sources_valid"].long()}
    logits = model(
        input_ids=batch["sources"],
        decoder_input_ids=batch["targets"],
        decoder_attention_mask=batch["targets_valid"].long(),
        **sources,
    ).logits
    found = {}
    for beams, penalty, early in SEARCHES:
        found[f"search/{beams},{penalty},{early}"] = model.generate(
            batch["sources"],
            num_beams=beams,
            length_penalty=penalty,
            early_stopping=early,
            max_length=13,  # the peer's length includes the start token
            bad_words_ids=[[23]],
            forced_eos_token_id=0,
            **sources,
        )
    return {"logits": logits, **found, **{f"weights/{name}": x for name, x in weights.items()}}
