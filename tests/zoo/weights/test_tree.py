import jax
import pytest

import zoo
from zoo.registry import family_of
from zoo.weights.tree import abstract_leaves, flatten, unflatten

CASES = [
    ("vit_nano_patch4_32", {}),
    ("vit_nano_patch4_32", {"drop_path": 0.1, "representation_dim": 5, "image_size": (8, 12)}),
    ("mixer_nano_patch4_32", {}),
    ("resnet50", {"drop_path": 0.1}),
]


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_tracing_each_block_once_gives_the_same_leaves(name, fields):
    model = zoo.create(name, **fields)
    inputs = family_of(model).example(model)
    whole = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    leaves = abstract_leaves(model, inputs)
    assert unflatten(leaves) == whole
    assert leaves.keys() == flatten(whole).keys()
