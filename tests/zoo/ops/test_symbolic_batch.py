"""Functions of arrays can be exported for a batch of any size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import zoo
from zoo.ops.assign import IouRule, assign_by_iou
from zoo.ops.mask_targets import mask_targets
from zoo.ops.matching import match
from zoo.ops.nms import nms
from zoo.ops.patches import patchify, unpatchify
from zoo.ops.ps_roi_pool import ps_roi_pool
from zoo.ops.resample import upsample_bilinear
from zoo.ops.roi_align import roi_align
from zoo.ops.roi_keypoints import decode_keypoints
from zoo.ops.roi_pool import roi_pool
from zoo.ops.sampling import sample_balanced
from zoo.text.decoding import Search, beam_search, generate, greedy_search

RULES = {"start_id": 1, "end_id": 2, "pad_id": 0, "max_length": 4}


def _step(table, tokens, position, state):
    return table[tokens] + 0.1 * position, state


def _greedy(table, active):
    search = Search(**RULES)
    return greedy_search(lambda *args: _step(table, *args), (), active, search)


def _beams(table, active):
    search = Search(**RULES, num_beams=2)
    return beam_search(lambda *args: _step(table, *args), (), active, search)


def _generate(sources, valid):
    model = zoo.create("transformer_nano")
    variables = model.init(jax.random.key(0), sources[:1], sources[:1], valid[:1])
    return generate(model, variables, sources, valid, Search(**RULES, num_beams=2))


TABLE = jnp.asarray(np.random.default_rng(0).normal(size=(5, 5)), jnp.float32)
# Each function, with the shapes and dtypes of its inputs; b is the batch.
CASES = {
    "match": (match, [("b, 5, 3", "float32")]),
    "match_valid": (match, [("b, 5, 3", "float32"), ("b, 3", "bool")]),
    "nms": (lambda x, s: nms(x, s, 0.5), [("b, 8, 4", "float32"), ("b, 8", "float32")]),
    "assign_by_iou": (
        lambda a, t: assign_by_iou(a, t, IouRule(0.5, 0.3, low_quality="ties")),
        [("b, 6, 4", "float32"), ("b, 3, 4", "float32")],
    ),
    "sample_balanced": (lambda labels: sample_balanced(labels % 2, 4, 0.5), [("b, 9", "int32")]),
    "roi_align": (
        lambda x, boxes: roi_align([x], 9 * boxes, strides=[2.0], size=2),
        [("b, 6, 8, 3", "float32"), ("b, 5, 4", "float32")],
    ),
    "roi_pool": (
        lambda x, boxes: roi_pool([x], 9 * boxes, strides=[2.0], size=2),
        [("b, 6, 8, 3", "float32"), ("b, 5, 4", "float32")],
    ),
    "ps_roi_pool": (
        lambda x, boxes: ps_roi_pool(x, 9 * boxes, stride=2, size=2),
        [("b, 6, 8, 8", "float32"), ("b, 5, 4", "float32")],
    ),
    "mask_targets": (
        lambda x, boxes, match: mask_targets(x, 9 * boxes, match % 2, size=2),
        [("b, 2, 6, 8", "float32"), ("b, 5, 4", "float32"), ("b, 5", "int32")],
    ),
    "decode_keypoints": (decode_keypoints, [("b, 4, 4, 2", "float32"), ("b, 4", "float32")]),
    "patchify": (lambda x: patchify(x, 2), [("b, 4, 6, 3", "float32")]),
    "unpatchify": (lambda x: unpatchify(x, 2, (4, 6)), [("b, 6, 12", "float32")]),
    "upsample_bilinear": (upsample_bilinear, [("b, 4, 6, 3", "float32")]),
    "greedy_search": (lambda active: _greedy(TABLE, active), [("b", "bool")]),
    "beam_search": (lambda active: _beams(TABLE, active), [("b", "bool")]),
    "generate": (_generate, [("b, 6", "int32"), ("b, 6", "bool")]),
}


def _draw(shape, dtype):
    rng = np.random.default_rng(0)
    if dtype == "float32":
        return rng.uniform(size=shape).astype(np.float32)
    return rng.integers(1, 5, shape).astype(dtype)


@pytest.mark.parametrize("name", CASES)
def test_a_symbolic_batch_gives_the_same(name):
    function, inputs = CASES[name]
    scope = export.SymbolicScope()
    specs = [
        jax.ShapeDtypeStruct(export.symbolic_shape(shape, scope=scope), dtype)
        for shape, dtype in inputs
    ]
    exported = export.export(jax.jit(function))(*specs)
    values = [_draw([3, *map(int, shape.split(", ")[1:])], dtype) for shape, dtype in inputs]
    found, expected = exported.call(*values), jax.jit(function)(*values)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
