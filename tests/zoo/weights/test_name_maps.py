"""The name map of each source in both directions, compared with the files of the peers."""

import contextlib
import gzip
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import zoo
from tests.zoo.conftest import models_goldens
from zoo.registry import MODELS, family_of
from zoo.types import InputError
from zoo.weights import Checkpoint, load_report, load_variables, open_checkpoint
from zoo.weights.choose import name_maps
from zoo.weights.maps import dense, plan
from zoo.weights.tree import abstract_leaves, flatten, unflatten


@pytest.fixture(params=models_goldens())
def case(request, golden, tmp_path):
    """A golden and its checkpoint as a file."""
    peer = golden(request.param)
    source = peer.source
    if source == "zoo":
        path = tmp_path / "weights.safetensors"
        save_file(peer.weights, path)
    else:
        path = tmp_path / "weights.npz"
        np.savez(path, **peer.weights)
    return peer, path, source


def plans_of(maps, model, leaves):
    """The plans of the maps that have a name for each leaf: not all have one for every norm."""
    found = []
    for name_map in maps:
        with contextlib.suppress(ValueError):
            named = [leaf for leaf in leaves if leaf not in name_map.implied(model)]
            found.append(plan(name_map.rules(model), named))
    return found


def test_writes_what_the_peer_wrote(case, tmp_path):
    peer, path, source = case
    model, variables = zoo.load(peer.name, path, **peer.fields)
    flat, theirs = flatten(variables), dict(open_checkpoint(path))
    theirs = {name: x for name, x in theirs.items() if "num_batches_tracked" not in name}
    # "module." is of torch's DataParallel; it is not written.
    theirs = {name.removeprefix("module."): x for name, x in theirs.items()}
    plans = plans_of(name_maps(family_of(model), source), model, flat)
    steps = next(steps for steps in plans if {step.theirs for step in steps} == theirs.keys())
    written = {
        step.theirs: step.layout.write(*(np.asarray(flat[name]) for name in step.ours))
        for step in steps
    }
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(written[name], tensor, err_msg=name)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (source, name)
        for name, family in MODELS.items()
        if "nano" in name
        for source in dict.fromkeys(m.source for m in family.names if m.rules(zoo.create(name)))
        if source != "zoo"
    ],
)
def test_every_source_goes_round(source, name, tmp_path):
    """Saving in the names of a source and loading again gives exactly the same variables."""
    model = zoo.create(name)
    model = model.clone(num_classes=3) if hasattr(model, "num_classes") else model
    if name.startswith("detr") and source == "huggingface":  # the source has no pre-norm
        model = model.clone(pre_norm=False)
    if (name, source) == ("darknet_nano", "mmdet"):  # the source has only the backbone
        model = model.clone(num_classes=0)
    shapes = unflatten(abstract_leaves(model, family_of(model).example(model)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    if source == "big_vision" and "vit" in name:  # the source has no position of the class token
        variables["params"]["cls_pos_embed"] *= 0
    own = source == "darknet"  # the format, which does not say which model it is
    path = tmp_path / f"model.{'weights' if own else 'safetensors'}"
    zoo.save(model, variables, path, source)
    again, loaded = zoo.load(name, path, num_classes=3) if own else zoo.load(path)
    assert again.clone(preprocessing=None) == model if own else again == model
    jax.tree.map(np.testing.assert_array_equal, variables, loaded)


@pytest.mark.parametrize(
    ("source", "name"), [("detectron2", "fastrcnn_nano"), ("panet", "panet_nano")]
)
def test_a_model_that_a_source_has_no_names_for_is_one_clear_error(source, name, tmp_path):
    model = zoo.create(name)
    shapes = unflatten(abstract_leaves(model, family_of(model).example(model)))
    variables = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)
    with pytest.raises(InputError, match=f"{source} cannot hold this .*: no name for"):
        zoo.save(model, variables, tmp_path / "model.safetensors", source)
    assert not list(tmp_path.iterdir())


def test_source_can_be_forced(golden):
    peer = golden("resnet_timm_basic_batch")
    _, report = load_variables(peer.model, peer.checkpoint, "torchvision")
    assert report.source == "torchvision"


def test_wrong_source_is_one_clear_error(golden):
    peer = golden("vit_timm_token")
    with pytest.raises(InputError) as error:
        load_variables(peer.model, peer.checkpoint, "torchvision")
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith("golden as torchvision: the model lacks blocks.0.attn.proj.bias")
    assert "the file lacks params/" in message
    with pytest.raises(InputError, match=r"no source 'tim' for ViT; there are zoo, timm"):
        load_variables(peer.model, peer.checkpoint, "tim")


def test_other_architecture_is_one_clear_error(golden):
    peer = golden("mlp_mixer_timm")
    model = zoo.create("vit_nano_patch4_32")
    with pytest.raises(InputError, match=r"the model lacks .* the file lacks params/") as error:
        load_variables(model, peer.checkpoint)
    assert "\n" not in str(error.value)


def test_other_width_names_the_shapes(golden):
    peer = golden("vit_timm_token")
    model = zoo.create(peer.name, **{**peer.fields, "hidden_dim": 32})
    with pytest.raises(InputError, match=r"shapes differ in .*\[16\] in the file, \[32\] in the"):
        load_variables(model, peer.checkpoint)


def test_other_number_of_heads_is_seen_where_the_file_shows_it(golden):
    peer = golden("vit_vision_transformer")
    model = zoo.create(peer.name, **{**peer.fields, "num_heads": 4})
    weights = {k.removeprefix("opt/target/"): v for k, v in peer.weights.items()}
    readers = {name: lambda x=x: x for name, x in weights.items()}
    with pytest.raises(InputError, match=r"attn/query/kernel .*not of shape \(16, 4, 4\)"):
        load_variables(model, Checkpoint(peer.checkpoint.path, "npz", readers))


def test_positions_that_are_no_grid(golden, tmp_path):
    peer = golden("vit_timm_token")
    weights = {**peer.weights, "pos_embed": np.zeros((1, 12, 16), np.float32)}
    np.savez(tmp_path / "bad.npz", **weights)
    report = load_report(peer.model, tmp_path / "bad.npz")
    assert "11 positions beside any class token's are not a square grid" in str(report)
    assert set(report.mismatched) == {"params/pos_embed"}


def test_a_leaf_without_a_name_is_an_error():
    with pytest.raises(ValueError, match=r"no name for params/b/kernel \(1 such\)"):
        plan(dense("a", "a"), ["params/a/kernel", "params/a/bias", "params/b/kernel"])


@pytest.mark.parametrize("name", zoo.list_models("detr_resnet*"))
def test_fair_names_are_those_of_the_authors_code(name):
    """The names and shapes equal those of a full-size checkpoint of the authors."""
    file = Path(__file__).parents[2] / "golden" / "detr_fair_names.json.gz"
    expected = json.loads(gzip.decompress(file.read_bytes()))[name]
    fields = {"num_classes": 250} if "panoptic" in name else {}
    model = zoo.create(name, **fields)
    leaves = abstract_leaves(model, family_of(model).example(model))
    written = {}
    for step in plan(name_maps(family_of(model), "fair")[0].rules(model), leaves):
        arrays = [np.broadcast_to(np.float32(0), leaves[path].shape) for path in step.ours]
        written[step.theirs] = list(step.layout.write(*arrays).shape)
    assert written == expected


def test_timm_names_inside_hugging_faces_detr(golden):
    """The files on the hub have timm's names in the backbone; the goldens have others there."""
    peer = golden("detr_fair")
    for file in (True, False):
        maps = name_maps(family_of(peer.model), "huggingface")
        name_map = maps[0 if file else 2]
        flat = {k: np.asarray(v) for k, v in flatten(peer.variables).items()}
        steps = plan(name_map.rules(peer.model), flat)
        tensors = {s.theirs: s.layout.write(*(flat[name] for name in s.ours)) for s in steps}
        body = "model.backbone.conv_encoder.model." if file else "model.backbone.model."
        assert {f"{body}conv1.weight", f"{body}layer2.1.bn2.running_var"} <= tensors.keys()
        readers = {name: lambda x=x: x for name, x in tensors.items()}
        again, report = load_variables(peer.model, Checkpoint(Path("file"), "npz", readers))
        assert (report.source, report.dropped) == ("huggingface", {})
        jax.tree.map(np.testing.assert_array_equal, again, peer.variables)


def test_fine_tuning_a_detr_makes_a_new_class_head_alone(golden, tmp_path):
    peer = golden("detr_fair")
    np.savez(tmp_path / "weights.npz", **peer.weights)
    fields = {**peer.fields, "num_classes": 9}
    _, variables, report = zoo.load_with_report(peer.name, tmp_path / "weights.npz", **fields)
    assert set(report.reinitialised) == {"params/head/kernel", "params/head/bias"}
    assert variables["params"]["head"]["kernel"].shape == (32, 10)
    before = {**peer.variables["params"], "head": None}
    jax.tree.map(np.testing.assert_array_equal, {**variables["params"], "head": None}, before)
    assert jnp.any(variables["params"]["head"]["kernel"] != 0)


def test_another_number_of_queries_is_one_clear_error(golden):
    peer = golden("detr_fair")
    model = peer.model.clone(num_queries=7)
    with pytest.raises(
        InputError, match=r"query_embed \(\[6, 32\] in the file, \[7, 32\]"
    ) as error:
        load_variables(model, peer.checkpoint, new_head=True)
    assert "\n" not in str(error.value)
