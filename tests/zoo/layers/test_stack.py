import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from zoo.layers import DropPath
from zoo.layers.stack import drop_path_rates, stacked_names

FIELDS = {"num_classes": 5, "num_layers": 3, "hidden_dim": 16, "num_heads": 2, "mlp_dim": 32}
SIZE = {"image_size": 8, "patch_size": 4}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A ViT with looped and with scanned layers, and the file that holds their parameters."""
    loop = zoo.create("vit_nano_patch4_32", **FIELDS, **SIZE)
    leaves, tree = jax.tree.flatten(jax.jit(loop.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3))))
    rng = np.random.default_rng(1)
    variables = jax.tree.unflatten(tree, [jnp.float32(rng.normal(x, 0.1)) for x in leaves])
    path = tmp_path_factory.mktemp("files") / "loop.safetensors"
    zoo.save(loop, variables, path)
    scan, stacked = zoo.load(path, scan_layers=True)
    return (loop, variables), (scan, stacked), path


IMAGES = jax.random.normal(jax.random.key(2), (4, 8, 8, 3))


def test_scanned_layers_compute_what_the_loop_does(both):
    (loop, variables), (scan, stacked), _ = both
    assert stacked["params"]["blocks"]["mlp"]["fc1"]["kernel"].shape == (3, 16, 32)
    expected = loop.apply(variables, IMAGES)
    np.testing.assert_allclose(scan.apply(stacked, IMAGES), expected, atol=1e-5)
    _, state = scan.apply(stacked, IMAGES, mutable=["intermediates"])
    (maps,) = state["intermediates"]["blocks"]["attn"]["attention"]
    _, state = loop.apply(variables, IMAGES, mutable=["intermediates"])
    (last,) = state["intermediates"]["blocks_2"]["attn"]["attention"]
    np.testing.assert_allclose(maps[2], last, atol=1e-6)


def gradients(model, variables):
    def loss(variables):
        return (model.apply(variables, IMAGES, train=True) ** 2).sum()

    return jax.jit(jax.grad(loss))(variables)["params"]


def test_gradients_are_those_of_the_loop_with_and_without_remat(both):
    (loop, variables), (scan, stacked), _ = both
    expected = gradients(loop, variables)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
        gradients(loop.clone(remat=True), variables),
        expected,
    )
    for remat in (False, True):
        found = gradients(scan.clone(remat=remat), stacked)
        for i in range(3):
            jax.tree.map(
                lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-5),
                found["blocks"],
                expected[f"blocks_{i}"],
            )


def test_files_are_the_same_with_and_without_scanned_layers(both, tmp_path):
    (_, variables), (scan, stacked), path = both
    zoo.save(scan, stacked, tmp_path / "zoo.safetensors")
    zoo.save(scan, stacked, tmp_path / "timm.safetensors", source="timm")
    same = functools.partial(jax.tree.map, np.testing.assert_array_equal)
    same(zoo.load(tmp_path / "zoo.safetensors", scan_layers=False)[1], variables)
    same(zoo.load(tmp_path / "zoo.safetensors")[1], stacked)
    name = "vit_nano_patch4_32"
    same(zoo.load(name, tmp_path / "timm.safetensors", **FIELDS, **SIZE)[1], variables)
    _, fresh = zoo.load(path, scan_layers=True, num_classes=7)
    assert fresh["params"]["head"]["kernel"].shape == (16, 7)


def test_drop_path_rises_through_scanned_layers(both):
    """With the rates 0, 0.45 and 0.9, the first branches are always kept, the last seldom."""
    _, (scan, stacked), _ = both
    scan = scan.clone(drop_path=0.9)
    names = ["attn", "mlp"]

    def dropped(key):
        _, state = scan.apply(
            stacked,
            IMAGES,
            train=True,
            rngs={"dropout": key},
            mutable=["intermediates"],
            capture_intermediates=lambda module, _: isinstance(module, DropPath),
        )
        found = state["intermediates"]["blocks"]
        paths = [found[name]["__call__"] for name in found if name not in names]
        return jnp.stack([(x == 0).all(axis=(2, 3)).mean(axis=1) for p in paths for x in p])

    rates = jax.vmap(dropped)(jax.random.split(jax.random.key(0), 200)).mean(axis=(0, 1))
    np.testing.assert_allclose(rates, drop_path_rates(0.9, 3), atol=0.06)


def test_names_of_stacked_leaves():
    unrolled = ["a/blocks_0/w", "a/blocks_1/w", "a/head/w"]
    stacked = stacked_names(["a/blocks/w", "a/head/w"], unrolled)
    assert stacked == {"a/blocks/w": ["a/blocks_0/w", "a/blocks_1/w"]}
