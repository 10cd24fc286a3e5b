import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zoo
from train.multipliers import freeze, layer_multipliers, path_multipliers
from train.optim import OptimConfig, decay_mask, make_optimizer, make_schedule
from train.recipes.detr import detr_resnet50_coco
from zoo.registry import family_of, layers_of
from zoo.types import InputError
from zoo.weights.tree import abstract_leaves, unflatten


def test_cosine_rises_and_falls():
    schedule = make_schedule(
        OptimConfig(learning_rate=2.0, warmup_steps=10, final_fraction=0.1), 110
    )
    rates = np.array([float(schedule(step)) for step in (0, 5, 10, 60, 110, 200)])
    np.testing.assert_allclose(rates, [0, 1, 2, 1.1, 0.2, 0.2], rtol=1e-6)


def test_linear_constant_and_rsqrt():
    steps = (10, 60, 110)
    config = {"learning_rate": 2.0, "warmup_steps": 10}
    linear = make_schedule(OptimConfig(schedule="linear", **config), 110)
    np.testing.assert_allclose([float(linear(s)) for s in steps], [2, 1, 0], atol=1e-6)
    constant = make_schedule(OptimConfig(schedule="constant", **config), 110)
    assert [float(constant(s)) for s in steps] == [2, 2, 2]
    rsqrt = make_schedule(OptimConfig(schedule="rsqrt", **config), 110)
    # "Attention is all you need": proportional to step ** -0.5 after the warm-up.
    np.testing.assert_allclose(
        [float(rsqrt(s)) for s in steps], [2 * (10 / s) ** 0.5 for s in steps], rtol=1e-6
    )


VIT_LAYERS = layers_of(zoo.create("vit_nano_patch4_32"))


def _vit_params():
    model = zoo.create("vit_nano_patch4_32", num_classes=3)
    return model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]


def test_decay_leaves_out_norms_biases_positions_and_tokens():
    mask = decay_mask(_vit_params())
    assert not mask["pos_embed"] and not mask["cls_token"] and not mask["cls_pos_embed"]
    assert not mask["norm"]["scale"] and not mask["head"]["bias"]
    assert mask["head"]["kernel"] and mask["patch_embed"]["proj"]["kernel"]
    assert mask["blocks_0"]["attn"]["query"]["kernel"]


def test_layer_multipliers_fall_towards_the_input():
    multipliers = layer_multipliers(_vit_params(), 0.5, VIT_LAYERS)
    assert multipliers["head"]["kernel"] == 1
    assert multipliers["norm"]["scale"] == 1
    assert multipliers["blocks_3"]["mlp"]["fc1"]["kernel"] == 0.5
    assert multipliers["blocks_0"]["attn"]["out"]["bias"] == 0.5**4
    for name in ("pos_embed", "cls_token", "cls_pos_embed"):
        assert multipliers[name] == 0.5**5
    assert multipliers["patch_embed"]["proj"]["kernel"] == 0.5**5


def test_layer_multipliers_of_scanned_layers():
    params = _vit_params()
    layers = [params.pop(f"blocks_{i}") for i in range(4)]
    params["blocks"] = jax.tree.map(lambda *xs: jnp.stack(xs), *layers)
    multipliers = layer_multipliers(params, 0.5, VIT_LAYERS)
    kernel = multipliers["blocks"]["mlp"]["fc1"]["kernel"]
    np.testing.assert_array_equal(kernel, [[[0.5**4]], [[0.5**3]], [[0.5**2]], [[0.5]]])
    assert multipliers["head"]["kernel"] == 1
    assert multipliers["pos_embed"] == 0.5**5


@pytest.mark.parametrize("name", zoo.list_models("*nano*"))
def test_every_familys_layers_are_its_parameters_from_the_input_on(name):
    model = zoo.create(name)
    family = family_of(model)
    leaves = abstract_leaves(model, family.example(model))
    params = unflatten(leaves)["params"]
    layers = layers_of(model)
    paths = {leaf.removeprefix("params/") for leaf in leaves if leaf.startswith("params/")}
    started = [{p for p in paths if p.startswith(tuple(f"{n}/" for n in ns))} for ns in layers]
    assert all(
        inside or any(name in paths for name in names)
        for inside, names in zip(started, layers, strict=True)
    )
    shares = jax.tree.leaves(layer_multipliers(params, 0.5, layers))
    assert min(shares) == 0.5 ** len(layers) and max(shares) >= 0.5  # 1 if there is a head


def test_layer_decay_needs_an_order_of_layers():
    params = {"head": {"kernel": jnp.zeros((2, 3))}}
    with pytest.raises(InputError, match=r"layer_decay is 0\.5, but this model has no order"):
        make_optimizer(OptimConfig(layer_decay=0.5), 10, params)


def _one_update(config, params, grads, layers=()):
    optimizer = make_optimizer(config, 10, params, layers)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    return updates


PARAMS = {"head": {"kernel": jnp.full((2, 3), 2.0), "bias": jnp.full((3,), 2.0)}}
GRADS = {"head": {"kernel": jnp.full((2, 3), 0.5), "bias": jnp.full((3,), -0.5)}}


def test_muon_takes_scanned_layers_one_by_one():
    config = OptimConfig(name="muon", learning_rate=0.1, schedule="constant")
    grads = jax.random.normal(jax.random.key(0), (3, 4, 2))
    params = {"kernel": jnp.ones((3, 4, 2))}
    stacked = _one_update(config, params, {"kernel": grads})["kernel"]
    for found, grad in zip(stacked, grads, strict=True):
        alone = _one_update(config, {"kernel": jnp.ones((4, 2))}, {"kernel": grad})["kernel"]
        np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb", "adafactor"])
def test_updates_go_downhill_and_decay_shrinks_kernels_only(name):
    plain = OptimConfig(name=name, learning_rate=0.1, schedule="constant", eps=1e-6)
    decayed = OptimConfig(
        name=name, learning_rate=0.1, schedule="constant", eps=1e-6, weight_decay=0.3
    )
    without, with_decay = (_one_update(config, PARAMS, GRADS) for config in (plain, decayed))
    assert (without["head"]["kernel"] < 0).all()
    assert (without["head"]["bias"] > 0).all()
    np.testing.assert_array_equal(with_decay["head"]["bias"], without["head"]["bias"])
    if name == "lamb":  # the norm of the update is the rate times that of the kernel
        norm = 0.1 * np.linalg.norm(PARAMS["head"]["kernel"])
        np.testing.assert_allclose(np.linalg.norm(with_decay["head"]["kernel"]), norm, rtol=1e-5)
        np.testing.assert_allclose(with_decay["head"]["bias"], 0.1, rtol=1e-4)  # Adam's update
        return
    momentum = 1.9 if name == "sgd" else 1.0  # sgd's first Nesterov step: g + 0.9 g
    expected = without["head"]["kernel"] - 0.1 * 0.3 * 2.0 * momentum
    np.testing.assert_allclose(with_decay["head"]["kernel"], expected, rtol=1e-5)


def test_adamw_is_torchs():
    # The formula of torch.optim.AdamW(lr=.1, betas=(.9, .99), eps=1e-8, weight_decay=.3) in
    # float64, for a parameter of 2.0 and two steps with the gradients .5 and -1.
    p, m, v = 2.0, 0.0, 0.0
    config = OptimConfig(
        learning_rate=0.1, b2=0.99, weight_decay=0.3, schedule="constant", clip_norm=None
    )
    params = {"kernel": jnp.full((1, 1), p)}
    optimizer = make_optimizer(config, 10, params)
    state = optimizer.init(params)
    for t, g in enumerate((0.5, -1.0), start=1):
        p -= 0.1 * 0.3 * p
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        p -= 0.1 * (m / (1 - 0.9**t)) / ((v / (1 - 0.99**t)) ** 0.5 + 1e-8)
        updates, state = optimizer.update({"kernel": jnp.full((1, 1), g)}, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["kernel"], p, rtol=1e-6)


def test_clipping_and_layer_decay_scale_the_update():
    config = OptimConfig(
        name="sgd", b1=0.0, learning_rate=1.0, schedule="constant", clip_norm=1.0, layer_decay=0.5
    )
    params = {"blocks_0": {"kernel": jnp.zeros((1, 1))}, "head": {"kernel": jnp.zeros((1, 1))}}
    grads = jax.tree.map(lambda x: x + jnp.array([[30.0]]), params)
    grads["head"]["kernel"] += 10.0
    updates = _one_update(config, params, grads, [["blocks_0"]])
    np.testing.assert_allclose(updates["head"]["kernel"], -40 / 50, rtol=1e-6)
    np.testing.assert_allclose(updates["blocks_0"]["kernel"], -0.5 * 30 / 50, rtol=1e-6)


def test_lambs_decay_turns_the_update_towards_the_origin():
    grads = {"head": {"kernel": jnp.array([[1.0, 0.0], [0.0, 0.0]])}}
    params = {"head": {"kernel": jnp.array([[0.0, 1.0], [0.0, 0.0]])}}
    config = OptimConfig(name="lamb", learning_rate=1.0, schedule="constant", weight_decay=0.5)
    update = _one_update(config, params, grads)["head"]["kernel"]
    # (1, 0.5 * 1), scaled to the norm of the parameters, which is 1.
    np.testing.assert_allclose(update[0], -np.array([1, 0.5]) / 1.25**0.5, rtol=1e-5)


def test_step_schedule_drops_once():
    config = OptimConfig(learning_rate=2.0, schedule="step", warmup_steps=10, drop_at=0.5)
    schedule = make_schedule(config, 100)
    rates = [float(schedule(step)) for step in (5, 10, 49, 50, 99)]
    np.testing.assert_allclose(rates, [1, 2, 2, 0.2, 0.2], rtol=1e-6)


def test_step_schedule_drops_at_every_share():
    config = OptimConfig(learning_rate=1.0, schedule="step", warmup_steps=3, drop_at=(0.5, 0.8))
    schedule = make_schedule(config, 10)
    rates = [float(schedule(step)) for step in (3, 4, 5, 7, 8, 9)]
    np.testing.assert_allclose(rates, [1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6)
    with pytest.raises(InputError, match=r"optim.drop_at is \(0.5, 1.5\), but must be in 0..1"):
        OptimConfig(drop_at=(0.5, 1.5))


def test_plain_momentum_begins_with_the_gradient():
    params = {"kernel": jnp.ones((2, 2))}
    grads = {"kernel": jnp.full((2, 2), 0.5)}
    rule = {"name": "sgd", "learning_rate": 1.0, "schedule": "constant", "b1": 0.9}
    plain = _one_update(OptimConfig(**rule, nesterov=False), params, grads)["kernel"]
    np.testing.assert_allclose(plain, -0.5, rtol=1e-6)
    ahead = _one_update(OptimConfig(**rule), params, grads)["kernel"]
    np.testing.assert_allclose(ahead, -0.5 * 1.9, rtol=1e-6)


def test_multipliers_are_of_the_first_pattern_and_freeze():
    config = OptimConfig(
        learning_rate=1.0,
        schedule="constant",
        weight_decay=0.1,
        multipliers={"body/stem_*": 0.0, "body": 0.1},
    )
    one = {"kernel": jnp.ones((1, 1))}
    params = {"body": {"stem_conv": one, "stages": one}, "head": one}
    updates = _one_update(config, params, params)
    assert updates["body"]["stem_conv"]["kernel"] == 0  # no weight decay either
    np.testing.assert_allclose(updates["head"]["kernel"], -1.1, rtol=1e-5)
    np.testing.assert_allclose(updates["body"]["stages"]["kernel"], -0.11, rtol=1e-5)
    with pytest.raises(
        InputError, match=r"'backbone' applies to no parameter: .* names are body, head"
    ):
        make_optimizer(OptimConfig(multipliers={"backbone": 0.1}), 10, params)


def _factors(name, multipliers):
    """The factor of each parameter of a model, by path."""
    inputs = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    init = zoo.create(name).init
    params = jax.eval_shape(init, jax.random.key(0), inputs)["params"]
    leaves = jax.tree_util.tree_leaves_with_path(path_multipliers(params, multipliers))
    return {"/".join(key.key for key in path): factor for path, factor in leaves}


def test_a_pattern_matches_whole_names_only():
    one = {"kernel": jnp.ones(1)}
    params = {"blocks_1": one, "blocks_10": one, "head": one}

    def factors(multipliers):
        tree = path_multipliers(params, multipliers)
        return [tree[name]["kernel"] for name in ("blocks_1", "blocks_10", "head")]

    assert factors({"blocks_1": 0.0}) == [0, 1, 1]
    assert factors({"blocks_1*": 0.0}) == [0, 0, 1]
    assert factors({"*/kernel": 0.5}) == [0.5] * 3
    assert factors({"blocks_1": 0.5, "": 0.0}) == [0.5, 0, 0]
    for short in ("blocks", "blocks_1/ker", "blocks_1/kernel/more"):
        with pytest.raises(InputError, match="applies to no parameter"):
            factors({short: 0.0})


def test_detr_freezes_the_backbones_stem_and_first_stage_alone():
    factors = _factors("detr_resnet50", detr_resnet50_coco().optim.multipliers)
    for path, factor in factors.items():
        frozen = path.startswith(("body/stem_", "body/stages_0_"))
        assert factor == (0 if frozen else 0.1 if path.startswith("body/") else 1), path
    counts = [list(factors.values()).count(factor) for factor in (0, 0.1, 1)]
    assert counts == [33, 126, 265]


def test_lars_is_maes():
    # As in facebookresearch/mae: momentum of the scaled gradients, times the rate, for two steps.
    config = OptimConfig(name="lars", learning_rate=2.0, schedule="linear", weight_decay=0.1)
    params = {"kernel": jnp.array([[3.0, 4.0]]), "bias": jnp.array([1.0])}
    optimizer = make_optimizer(config, 4, params)
    state = optimizer.init(params)
    kernel, bias, moments = np.array([[3.0, 4.0]]), np.array([1.0]), [0.0, 0.0]
    for rate, gradient in ((2.0, 0.5), (1.5, -1.0)):
        grads = jax.tree.map(lambda x, g=gradient: jnp.full_like(x, g), params)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        direction = gradient + 0.1 * kernel
        direction *= 0.001 * np.linalg.norm(kernel) / np.linalg.norm(direction)
        moments = [0.9 * moments[0] + direction, 0.9 * moments[1] + gradient]
        kernel, bias = kernel - rate * moments[0], bias - rate * moments[1]
    np.testing.assert_allclose(params["kernel"], kernel, rtol=1e-5)
    np.testing.assert_allclose(params["bias"], bias, rtol=1e-5)


def test_a_frozen_parameter_has_no_gradient():
    multipliers = {"head": 1.0, "": 0.0}

    def loss(params):
        params = freeze(params, multipliers)
        return (params["body"]["kernel"] * params["head"]["kernel"]).sum()

    params = {"body": {"kernel": jnp.full((1, 1), 2.0)}, "head": {"kernel": jnp.full((1, 1), 3.0)}}
    grads = jax.grad(loss)(params)
    assert (grads["body"]["kernel"], grads["head"]["kernel"]) == (0, 2)
