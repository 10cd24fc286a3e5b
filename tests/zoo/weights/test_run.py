import json
import shutil

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from zoo.weights.run import (
    class_names,
    fields_from_json,
    fields_to_json,
    read_run,
    run_preprocessing,
)


def params_of(step):
    return {"head": {"kernel": np.full((2, 3), step, np.float32)}}


def save(checkpoints, scores):
    """Saves checkpoints like the training loop, with the score of each step."""
    options = ocp.CheckpointManagerOptions(best_fn=lambda metrics: metrics.get("score", -1))
    with ocp.CheckpointManager(checkpoints, options=options) as manager:
        for step, score in scores.items():
            statistics = {"mean": np.full(3, step, np.float32)}
            variables = {"params": params_of(step), "batch_stats": statistics}
            manager.save(
                step,
                args=ocp.args.Composite(variables=ocp.args.StandardSave(variables)),
                metrics={} if score is None else {"score": score},
                force=True,
            )


@pytest.fixture
def run(tmp_path):
    """A run with checkpoints of the steps 2, 5 and 9."""
    fields = {"num_classes": 10, "image_size": [8, 16], "dtype": "bfloat16"}
    config = {"model": {"name": "vit_nano_patch4_32", "fields": fields}, "seed": 0}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save(tmp_path / "checkpoints", {2: None, 5: None, 9: None})
    return tmp_path


def test_latest_step_if_none_was_evaluated(run):
    name, fields, variables = read_run(run)
    assert name == "vit_nano_patch4_32"
    assert fields == {"num_classes": 10, "image_size": (8, 16), "dtype": jnp.bfloat16}
    np.testing.assert_array_equal(variables["params"]["head"]["kernel"], np.full((2, 3), 9))
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.full(3, 9))


@pytest.mark.parametrize(
    ("scores", "read"),
    [({1: 0.2, 4: 0.5, 6: None, 7: 0.3}, 4), ({1: 0.5, 4: 0.5}, 4), ({1: 0.0, 4: None}, 1)],
)
def test_the_best_step_is_read_of_equal_ones_the_latest(run, scores, read):
    shutil.rmtree(run / "checkpoints")
    save(run / "checkpoints", scores)
    assert read_run(str(run))[2]["params"]["head"]["kernel"][0, 0] == read


def test_half_written_step_is_not_seen(run):
    (run / "checkpoints" / "11.orbax-checkpoint-tmp").mkdir()
    assert read_run(run)[2]["params"]["head"]["kernel"][0, 0] == 9
    # Another process may be writing this folder, so it is kept.
    assert (run / "checkpoints" / "11.orbax-checkpoint-tmp").is_dir()


def test_not_a_run(tmp_path):
    with pytest.raises(ValueError, match=r"not a run: it needs config.json and checkpoints/"):
        read_run(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text('{"model": {"name": "vit", "fields": {}}}')
    with pytest.raises(ValueError, match="no complete checkpoint"):
        read_run(tmp_path)


def test_config_without_a_model(run):
    (run / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config.json: no model's name and fields"):
        read_run(run)


def test_fields_survive_json():
    fields = {
        "image_size": (8, 16),
        "dtype": jnp.float32,
        "pool": "mean",
        "representation_dim": None,
    }
    stored = json.loads(json.dumps(fields_to_json(fields)))
    assert fields_from_json(stored) == fields


def test_the_names_of_a_runs_classes(tmp_path):
    with pytest.raises(ValueError, match=r"config.json: no names of classes"):
        class_names(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"class_names": ["cat", "dog"]}))
    assert class_names(str(tmp_path)) == ("cat", "dog")


@pytest.mark.parametrize(
    ("data", "size"),
    [
        ({"image_size": [32, 48]}, (32, 48)),
        ({"buckets": [[64, 64]], "short_sides": [], "long_side": 1333}, (64, 64)),
        (
            {"buckets": [[800, 1088], [1344, 800]], "short_sides": [480, 800], "long_side": 1333},
            (800, 1333),
        ),
        ({"buckets": [[320, 320]], "short_sides": [480], "long_side": 1333}, (320, 320)),
    ],
)
def test_how_a_runs_images_are_prepared(tmp_path, data, size):
    statistics = {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]}
    (tmp_path / "config.json").write_text(json.dumps({"data": {**data, **statistics}}))
    how = run_preprocessing(tmp_path)
    assert (how.size, how.mean, how.std) == (size, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
