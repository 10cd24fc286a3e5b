"""Files of masked autoencoders, loaded as a MAE, and their encoders loaded as a ViT."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

import zoo
from zoo.layers import sincos_2d
from zoo.types import InputError
from zoo.weights.tree import flatten

CASES = {"mae_huggingface": "huggingface", "mae_fair": "fair"}
VIT = {"hidden_dim": 16, "num_layers": 2, "patch_size": 4, "num_heads": 2, "mlp_dim": 64}
VIT |= {"image_size": 16}
MEAN = {"pool": "mean", "norm_after_pool": True}


@pytest.fixture(params=CASES)
def case(request, golden, tmp_path):
    """A golden, its checkpoint as an npz file, and its source."""
    peer = golden(request.param)
    path = tmp_path / "weights.npz"
    np.savez(path, **peer.weights)
    return peer, path, CASES[request.param]


@pytest.fixture(params=["zoo", "huggingface", "fair"])
def saved(request, golden, tmp_path):
    """A masked autoencoder, its variables, and a file of it in one of the layouts."""
    peer = golden("mae_fair")
    path = tmp_path / "mae.safetensors"
    zoo.save(peer.model, peer.variables, path, request.param)
    return peer, path, request.param


def test_reads_and_writes_what_the_peer_wrote(case, tmp_path):
    peer, path, source = case
    model, variables, report = zoo.load_with_report(peer.name, path, **peer.fields)
    assert report.source == source
    assert not report.resized and not report.reinitialised and not report.implied
    assert not report.dropped
    zoo.save(model, variables, tmp_path / "back.safetensors", source)
    with safe_open(tmp_path / "back.safetensors", "np") as file:
        assert set(file.keys()) == set(peer.weights)
        for name in file.keys():
            np.testing.assert_allclose(file.get_tensor(name), peer.weights[name], atol=1e-6)


@pytest.mark.parametrize("names", ["file", "state"])
def test_the_other_names_of_hugging_face(golden, tmp_path, names):
    """transformers 5 has other names for the decoder's blocks in files, all blocks in memory."""
    peer = golden("mae_huggingface")
    renames = {
        "file": [("decoder.decoder_layers", "decoder.decoder_encoder.layer")],
        "state": [
            ("vit.encoder.layer", "vit.layers"),
            ("attention.attention.query", "attention.q_proj"),
            ("attention.attention.key", "attention.k_proj"),
            ("attention.attention.value", "attention.v_proj"),
            ("attention.output.dense", "attention.o_proj"),
            ("intermediate.dense", "mlp.fc1"),
            ("output.dense", "mlp.fc2"),
        ],
    }[names]
    weights = peer.weights
    for old, new in renames:
        weights = {k.replace(old, new): v for k, v in weights.items()}
    np.savez(tmp_path / "renamed.npz", **weights)
    _, variables = zoo.load(peer.name, tmp_path / "renamed.npz", **peer.fields)
    jax.tree.map(np.testing.assert_array_equal, variables, peer.variables)


def test_another_image_size_interpolates_the_positions(case):
    peer, path, _ = case
    fields = {**peer.fields, "image_size": 24}
    _, variables, report = zoo.load_with_report(peer.name, path, **fields)
    assert set(report.resized) == {"fixed/encoder/pos_embed", "fixed/decoder/pos_embed"}
    old = peer.variables["fixed"]["encoder"]["pos_embed"]
    expected = jax.image.resize(old, (6, 6, 16), "bicubic", antialias=True)
    np.testing.assert_allclose(variables["fixed"]["encoder"]["pos_embed"], expected, atol=1e-6)


def test_the_reference_has_our_sinusoids(golden):
    peer = golden("mae_fair")
    ours = peer.model.init(jax.random.key(0), peer.images)["fixed"]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours, peer.variables["fixed"]
    )


def test_the_encoder_goes_into_a_vit(saved):
    peer, path, source = saved
    vit, loaded, report = zoo.load_with_report("vit_nano_patch4_32", path, **VIT, num_classes=3)
    assert report.source == source
    assert set(report.reinitialised) == {"params/head/kernel", "params/head/bias"}
    ours = flatten(peer.variables)
    for leaf, value in flatten(loaded).items():
        if f"params/encoder/{leaf.removeprefix('params/')}" in ours:
            np.testing.assert_array_equal(value, ours[leaf.replace("params", "params/encoder", 1)])
    np.testing.assert_allclose(loaded["params"]["pos_embed"], sincos_2d(4, 4, 16), atol=1e-6)
    np.testing.assert_array_equal(loaded["params"]["cls_pos_embed"], 0)
    assert not report.implied
    assert set(report.dropped.values()) == {"part of the decoder; a ViT has only the encoder"}
    (expected,) = peer.model.apply(peer.variables, peer.images, method="feature_maps")
    (found,) = vit.apply(loaded, peer.images, method="feature_maps")
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_mean_pooling_starts_a_norm_of_its_own(saved):
    _, path, source = saved
    _, loaded, report = zoo.load_with_report(
        "vit_nano_patch4_32", path, **VIT, **MEAN, num_classes=3
    )
    np.testing.assert_array_equal(loaded["params"]["norm"]["scale"], 1)
    np.testing.assert_array_equal(loaded["params"]["norm"]["bias"], 0)
    assert {"params/norm/scale", "params/norm/bias"} <= set(report.implied)
    left_out = {
        "zoo": {"params/encoder/norm/scale", "params/encoder/norm/bias"},
        "huggingface": {"vit.layernorm.weight", "vit.layernorm.bias"},
        "fair": {"norm.weight", "norm.bias"},
    }
    assert left_out[source] <= set(report.dropped)
    assert "the encoder's last norm; this ViT has one after the pooling" in str(report)


def test_a_linear_probe_starts_from_it(saved):
    peer, path, _ = saved
    vit, loaded, report = zoo.load_with_report(
        "vit_nano_patch4_32", path, **VIT, head_batch_norm=True, num_classes=3
    )
    assert "batch_stats/head_norm/mean" in report.implied
    assert vit.apply(loaded, peer.images).shape == (3, 3)


def test_fixed_positions_stay_fixed(saved):
    peer, path, _ = saved
    fields = {**VIT, "positions": "fixed", "num_classes": 3}
    vit, loaded = zoo.load("vit_nano_patch4_32", path, **fields)
    assert "pos_embed" not in loaded["params"]
    assert loaded["fixed"]["pos_embed"].shape == (4, 4, 16)
    (expected,) = peer.model.apply(peer.variables, peer.images, method="feature_maps")
    (found,) = vit.apply(loaded, peer.images, method="feature_maps")
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_larger_vit_interpolates_the_sinusoids(saved):
    _, path, _ = saved
    fields = {**VIT, "image_size": (24, 32), "num_classes": 3}
    _, loaded, report = zoo.load_with_report("vit_nano_patch4_32", path, **fields)
    expected = jax.image.resize(sincos_2d(4, 4, 16), (6, 8, 16), "bicubic", antialias=True)
    np.testing.assert_allclose(loaded["params"]["pos_embed"], expected, atol=1e-5)
    assert report.resized == {"params/pos_embed": "[4, 4, 16] in the file, [6, 8, 16] in the model"}


def test_without_a_number_of_classes_the_missing_head_is_an_error(saved):
    _, path, _ = saved
    with pytest.raises(InputError, match=r"the file lacks params/head/(kernel|bias)"):
        zoo.load("vit_nano_patch4_32", path, **VIT)


def test_fairs_encoder_alone(golden, tmp_path):
    """The encoder alone, as in mae_pretrain_vit_*.pth, is enough for a ViT but not for a MAE."""
    peer = golden("mae_fair")
    weights = {k: v for k, v in peer.weights.items() if "decoder" not in k and k != "mask_token"}
    np.savez(tmp_path / "encoder.npz", **weights)
    vit, loaded = zoo.load("vit_nano_patch4_32", tmp_path / "encoder.npz", **VIT, num_classes=3)
    (found,) = vit.apply(loaded, peer.images, method="feature_maps")
    (expected,) = peer.model.apply(peer.variables, peer.images, method="feature_maps")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    _, _, report = zoo.load_with_report(
        "vit_nano_patch4_32", tmp_path / "encoder.npz", **VIT, **MEAN, num_classes=3
    )
    assert set(report.dropped) == {"norm.weight", "norm.bias"}
    with pytest.raises(InputError, match="the file lacks params/decoder/"):
        zoo.load(peer.name, tmp_path / "encoder.npz", **peer.fields)


def test_a_classifier_is_not_taken_for_an_encoder(golden, tmp_path):
    """A file with a trained head keeps its norm: a model with the norm elsewhere refuses it."""
    peer = golden("vit_timm_token")
    np.savez(tmp_path / "vit.npz", **peer.weights)
    with pytest.raises(InputError, match=r"fc_norm|head"):
        zoo.load(peer.name, tmp_path / "vit.npz", **{**peer.fields, **MEAN})


@pytest.mark.parametrize("batch_norm", [False, True])
def test_fairs_fine_tuned_and_probed_vits_go_round(tmp_path, batch_norm):
    fields = {"head_batch_norm": True} if batch_norm else MEAN
    vit = zoo.create("vit_nano_patch4_32", **VIT, **fields, num_classes=3)
    shapes = jax.eval_shape(vit.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.uniform(0.1, 1, x.shape).astype(np.float32), shapes)
    path = tmp_path / "vit.safetensors"
    zoo.save(vit, variables, path, "fair")
    with safe_open(path, "np") as file:
        names = set(file.keys())
    wanted = {"head.0.running_mean", "head.1.weight"} if batch_norm else {"fc_norm.weight"}
    assert wanted <= names
    again, loaded = zoo.load(path)
    assert again == vit
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)
