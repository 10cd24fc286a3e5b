import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.data import mix_batch
from zoo.data.augment.mix import _box

BATCH, HEIGHT, WIDTH, CLASSES = 6, 12, 20, 5


@pytest.fixture
def batch():
    images = jnp.broadcast_to(
        jnp.arange(BATCH, dtype=jnp.float32)[:, None, None, None], (BATCH, HEIGHT, WIDTH, 3)
    )
    return images, jax.nn.one_hot(jnp.array([0, 1, 2, 3, 4, 0]), CLASSES)


def mixed(batch, seed, **options):
    return map(np.asarray, mix_batch(jax.random.key(seed), *batch, **options))


def own_share(targets):
    """The share that examples keep; not from example 0, whose partner 5 has the same class."""
    return targets[1, 1]  # example 1 has class 1, its partner 4 has class 4


@pytest.mark.parametrize("options", [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_targets_sum_to_one_and_follow_the_pixels(batch, options):
    for seed in range(30):
        images, targets = mixed(batch, seed, mixup=options[0], cutmix=options[1])
        np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
        share = own_share(targets)
        # All pixels of image i are i, and of its partner 5 - i: the mean shows the share.
        expected = share * np.arange(6) + (1 - share) * np.arange(6)[::-1]
        np.testing.assert_allclose(images.mean((1, 2, 3)), expected, atol=1e-4)


def test_mixup_blends_every_pixel_alike(batch):
    images, _ = mixed(batch, 0, mixup=1.0, cutmix=0.0)
    assert np.ptp(images, axis=(1, 2, 3)).max() == 0


def test_cutmix_pastes_one_box(batch):
    for seed in range(20):
        images, targets = mixed(batch, seed, mixup=0.0, cutmix=1.0)
        pasted = images[0, :, :, 0] == 5
        assert set(np.unique(images[0])) <= {0, 5}
        rows, columns = pasted.any(1), pasted.any(0)
        np.testing.assert_array_equal(pasted, rows[:, None] & columns[None])
        assert np.abs(np.diff(rows.astype(int))).sum() <= 2
        np.testing.assert_allclose(own_share(targets), 1 - pasted.mean(), atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_boxes_are_those_of_timm(share):
    """Rows c - n // 2 to c + (n + 1) // 2 around a centre c, n = int(length * sqrt(share))."""
    n, m = int(HEIGHT * share**0.5), int(WIDTH * share**0.5)
    wanted = {
        (min(y + (n + 1) // 2, HEIGHT) - max(y - n // 2, 0))
        * (min(x + (m + 1) // 2, WIDTH) - max(x - m // 2, 0))
        for y in range(HEIGHT)
        for x in range(WIDTH)
    }
    boxes = jax.vmap(lambda key: _box(key, HEIGHT, WIDTH, jnp.float32(share)))
    areas = np.asarray(boxes(jax.random.split(jax.random.key(0), 2000))).sum((1, 2))
    assert set(areas.tolist()) == wanted
    assert areas.max() == n * m


def test_each_kind_is_drawn_half_the_time_and_probability_holds(batch):
    def kind(seed, **options):
        images, targets = mixed(batch, seed, mixup=1.0, cutmix=1.0, **options)
        if own_share(targets) == 1:
            return "none"
        return "mixup" if np.ptp(images[1]) == 0 else "cutmix"

    kinds = [kind(seed) for seed in range(200)]
    assert 75 < kinds.count("mixup") < 125
    kinds = [kind(seed, probability=0.3) for seed in range(200)]
    assert 110 < kinds.count("none") < 165


def test_mixup_shares_are_of_the_beta_distribution(batch):
    run = jax.jit(jax.vmap(lambda key: mix_batch(key, *batch, mixup=0.4, cutmix=0.0)[1][1, 1]))
    shares = np.asarray(run(jax.random.split(jax.random.key(0), 4000)))
    assert abs(shares.mean() - 0.5) < 0.02
    assert abs(shares.var() - 1 / (4 * (2 * 0.4 + 1))) < 0.01  # the variance of Beta(0.4, 0.4)


def test_invalid_examples_bring_no_target(batch):
    images, targets = batch
    targets = targets.at[4].set(0)  # the partner of example 1
    _, mixture = mixed((images, targets), 3, mixup=1.0, cutmix=0.0)
    assert 0 < mixture[1].sum() < 1
    assert mixture[1, 4] == 0


def test_off_is_the_identity(batch):
    for options in ({"mixup": 0.0, "cutmix": 0.0}, {"mixup": 1.0, "cutmix": 1.0, "probability": 0}):
        images, targets = mixed(batch, 0, **options)
        np.testing.assert_array_equal(images, batch[0])
        np.testing.assert_array_equal(targets, batch[1])


def test_jit_equals_eager_and_keeps_bfloat16(batch):
    images, targets = batch[0].astype(jnp.bfloat16), batch[1]

    def mix(key, images, targets):
        return mix_batch(key, images, targets, mixup=0.8, cutmix=1.0, probability=0.9)

    compiled = jax.jit(mix)
    for seed in range(4):
        key = jax.random.key(seed)
        pairs = zip(compiled(key, images, targets), mix(key, images, targets), strict=True)
        for ours, theirs in pairs:
            assert ours.dtype == theirs.dtype
            np.testing.assert_allclose(
                ours.astype(np.float32), theirs.astype(np.float32), rtol=1e-2, atol=1e-2
            )
    assert compiled._cache_size() == 1
