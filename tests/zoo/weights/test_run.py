import json

import numpy as np
import orbax.checkpoint as ocp
import pytest

from zoo.weights.run import fields_from_json, fields_to_json, read_run


def params_of(step):
    return {"head": {"kernel": np.full((2, 3), step, np.float32)}}


@pytest.fixture
def run(tmp_path):
    """A run with checkpoints of the steps 2, 5 and 9."""
    fields = {"num_classes": 10, "image_size": [8, 16], "dtype": "bfloat16"}
    config = {"model": {"name": "vit_nano_patch4_32", "fields": fields}, "seed": 0}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with ocp.CheckpointManager(tmp_path / "checkpoints") as manager:
        for step in (2, 5, 9):
            state = {"batch_stats": {"mean": np.full(3, step, np.float32)}}
            items = {"params": params_of(step), "model_state": state}
            save = {name: ocp.args.StandardSave(item) for name, item in items.items()}
            manager.save(step, args=ocp.args.Composite(**save))
    return tmp_path


def test_latest_step(run):
    name, fields, variables = read_run(run)
    assert name == "vit_nano_patch4_32"
    assert fields == {"num_classes": 10, "image_size": (8, 16), "dtype": "bfloat16"}
    np.testing.assert_array_equal(variables["params"]["head"]["kernel"], np.full((2, 3), 9))
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.full(3, 9))


@pytest.mark.parametrize(("best", "read"), [(5, 5), (4, 9)])
def test_best_step_if_it_is_still_there(run, best, read):
    (run / "checkpoints" / "best.json").write_text(json.dumps({"step": best}))
    assert read_run(str(run))[2]["params"]["head"]["kernel"][0, 0] == read


def test_half_written_step_is_not_seen(run):
    (run / "checkpoints" / "11.orbax-checkpoint-tmp").mkdir()
    assert read_run(run)[2]["params"]["head"]["kernel"][0, 0] == 9
    assert (run / "checkpoints" / "11.orbax-checkpoint-tmp").is_dir()  # a run may be writing it


def test_no_model_state(tmp_path):
    config = {"model": {"name": "vit_nano_patch4_32", "fields": {}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with ocp.CheckpointManager(tmp_path / "checkpoints") as manager:
        item = ocp.args.StandardSave(params_of(1))
        manager.save(1, args=ocp.args.Composite(params=item))
    assert set(read_run(tmp_path)[2]) == {"params"}


def test_not_a_run(tmp_path):
    with pytest.raises(ValueError, match=r"not a run: it needs config.json and checkpoints/"):
        read_run(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config.json: no model's name and fields"):
        read_run(tmp_path)
    (tmp_path / "config.json").write_text('{"model": {"name": "vit", "fields": {}}}')
    with pytest.raises(ValueError, match="no complete checkpoint"):
        read_run(tmp_path)


def test_fields_survive_json():
    fields = {
        "image_size": (8, 16),
        "dtype": np.float32,
        "pool": "mean",
        "representation_dim": None,
    }
    stored = json.loads(json.dumps(fields_to_json(fields)))
    assert fields_from_json(stored) == {**fields, "dtype": "float32"}
