"""R-CNN, SPP-net and Fast R-CNN from a training run to detections, with SVMs in between."""

import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC

import eval.detection
import eval.detection_time
import train.svms
import zoo
from train.checks import detection as checks
from train.config import ConfigError, override
from train.loop import train as train_run
from train.recipes import RECIPES
from train.region_svms import ImageRegions, fit_regions
from zoo.classical.selective_search import propose
from zoo.data import open_detection
from zoo.data.digit_scenes import draw_scene
from zoo.ops.boxes import iou
from zoo.types import SCENE_SEARCH, InputError

SMALL = '--model.backbone_fields={"num_blocks": [1, 1], "stage_dims": [8, 8], "stem_dim": 8}'
TINY = (
    SMALL,
    "--batch_size=4",
    "--steps=3",
    "--log_every=3",
    "--eval_every=3",
    "--checkpoint_every=3",
    "--data.train_split=train[:30]",
    "--data.eval_split=test[:6]",
    "--data.search.num_proposals=40",
    "--data.threads=0",
    "--optim.name=adamw",  # muon takes longer to compile
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return f"--data.proposal_cache={tmp_path_factory.mktemp('cache')}"


@pytest.fixture(scope="module")
def rcnn(tmp_path_factory, cache):
    """The folder of a run of R-CNN, which has SVMs, too."""
    folder = tmp_path_factory.mktemp("rcnn")
    run("rcnn", folder, cache, "--model.dense_dims=[16]", "--model.crop_size=16")
    assert train.svms.main([f"--workdir={folder}", "--images=25"]) == 0
    return folder


def run(name, folder, *overrides):
    config = override(RECIPES[f"{name}_digit_scenes"](), [*TINY, *overrides])
    output = io.StringIO()
    return train_run(config, folder, Console(file=output, width=200)), output.getvalue()


def figures(folder):
    path = folder / "figures.json"
    assert eval.detection.main([f"--workdir={folder}", f"--json={path}"]) == 0
    return json.loads(path.read_text())


def test_a_run_is_evaluated_with_its_softmax_and_with_svms(rcnn):
    softmax, svms = figures(rcnn), figures(rcnn / "svms")
    assert 0 <= softmax["AP"] <= 1 and 0 <= svms["AP"] <= 1
    assert softmax["AR100"] != svms["AR100"]
    assert softmax["step"] == svms["step"] == 3
    config = json.loads((rcnn / "svms" / "config.json").read_text())
    assert config["model"]["fields"]["classifier"] == "svm"
    assert "classifier" not in json.loads((rcnn / "config.json").read_text())["model"]["fields"]


def test_the_run_with_svms_is_loaded_saved_and_predicts(rcnn, tmp_path):
    model, variables = zoo.load(rcnn / "svms")
    softmax, before = zoo.load(rcnn)
    assert (model.classifier, softmax.classifier) == ("svm", "softmax")
    jax.tree.map(
        np.testing.assert_array_equal, variables["params"]["body"], before["params"]["body"]
    )
    assert set(variables["params"]["head"]) == {"dense_0", "svm", "ridge"}

    zoo.save(model, variables, tmp_path / "rcnn.safetensors")
    again, loaded = zoo.load(tmp_path / "rcnn.safetensors")
    assert again.preprocessing.proposals.num_proposals == 40
    image = draw_scene("test", 0).image
    found, same = (zoo.predict(*one, image) for one in ((model, variables), (again, loaded)))
    assert len(found.boxes) and (found.scores > 0.05).all()
    np.testing.assert_array_equal(found.boxes, same.boxes)


def test_predictions_are_those_of_the_evaluation(rcnn, tmp_path):
    """`zoo.predict` proposes the regions that the data have."""
    model, variables = zoo.load(rcnn)
    results = tmp_path / "results.json"
    assert eval.detection.main([f"--workdir={rcnn}", f"--results={results}"]) == 0
    entries = [one for one in json.loads(results.read_text()) if one["image_id"] == 2]
    found = zoo.predict(model, variables, draw_scene("test", 2).image)
    assert len(found.scores) == len(entries) > 3
    np.testing.assert_allclose(
        np.sort(found.scores), np.sort([one["score"] for one in entries]), atol=1e-5
    )


def test_svms_refuse_other_runs(rcnn, tmp_path, cache, capsys):
    assert train.svms.main([f"--workdir={rcnn}"]) == 2
    assert "there is a run already" in capsys.readouterr().err
    assert train.svms.main([f"--workdir={rcnn}", "--images=0"]) == 2
    assert train.svms.main([f"--workdir={rcnn / 'svms'}", f"--output={tmp_path}"]) == 2
    assert "softmax" in capsys.readouterr().err


@pytest.mark.slow
def test_sppnet_trains_the_dense_layers_on_the_backbone_of_rcnn(rcnn, tmp_path, cache):
    fields = ("--model.dense_dims=[16]", "--model.scales=[1.0]", "--model.bins=[2,1]")
    run("sppnet", tmp_path / "run", cache, *fields, f"--init_backbone={rcnn}")
    _, found = zoo.load(tmp_path / "run")
    _, theirs = zoo.load(rcnn)
    for collection in ("params", "batch_stats"):
        bodies = (one[collection]["body"] for one in (found, theirs))
        jax.tree.map(_assert_equal_but_for_averaging, *bodies)
    assert train.svms.main([f"--workdir={tmp_path / 'run'}", "--images=25"]) == 0
    assert 0 <= figures(tmp_path / "run" / "svms")["AP"] <= 1


def _assert_equal_but_for_averaging(found, expected):
    """The moving average of a constant differs by the rounding of float32."""
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_a_backbone_of_another_size_is_refused(rcnn, tmp_path, cache):
    other = SMALL.replace("[8, 8]", "[8, 9]")
    with pytest.raises(ConfigError, match="stages_1_0"):
        run("sppnet", tmp_path, cache, other, f"--init_backbone={rcnn}")


@pytest.mark.slow
def test_fast_rcnn_trains_and_is_evaluated(tmp_path, cache):
    result, _ = run("fastrcnn", tmp_path, cache, "--model.box_dims=[16]", "--data.flip=true")
    found = figures(tmp_path)
    np.testing.assert_allclose(found["AP"], result.figures["AP"], atol=1e-6)
    model, variables = zoo.load(tmp_path)
    assert model.preprocessing.proposals.num_proposals == 40
    assert model.preprocessing.proposals.ks == SCENE_SEARCH.ks
    assert zoo.predict(model, variables, draw_scene("test", 0).image).boxes.shape[1] == 4


def test_detectors_that_propose_themselves_take_no_proposals(tmp_path, cache):
    with pytest.raises(InputError, match="Faster R-CNN takes none"):
        run("fastrcnn", tmp_path, cache, "--model.name=fasterrcnn_nano")


def draw_regions(seed, count=6):
    """Images with proposals of random features; class 2 has no proposal near an object."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        iou = rng.uniform(0, 0.9, (40, 3)).astype(np.float32)
        iou[:, 2] *= 0.5
        features = rng.normal(size=(40, 5)).astype(np.float32) + 3 * iou[:, [0]]
        pooled, deltas = (rng.normal(size=(40, n)).astype(np.float32) for n in (7, 4))
        true = rng.normal(size=(3, 5)).astype(np.float32) + 3
        yield ImageRegions(features, pooled, iou, deltas, np.arange(3), true)


def test_overlaps_are_the_highest_of_a_class():
    one = next(draw_regions(0))._replace(labels=np.array([1, 1, 0]))
    found = one.overlaps(4)
    np.testing.assert_array_equal(found[:, 0], one.iou[:, 2])
    np.testing.assert_array_equal(found[:, 1], one.iou[:, :2].max(1))
    assert not found[:, 2:].any()


def test_svms_and_regressions_equal_scikit_learns():
    """On all negatives, of which mining drops only easy ones; 1e-3 is the solver's tolerance."""
    images = list(draw_regions(1))
    fitted = fit_regions(lambda what: images, 3)
    features = np.concatenate([one.features for one in images])
    scale = 20 / np.linalg.norm(features, axis=1).mean()
    for label in range(3):
        overlaps = np.concatenate([one.iou[:, label] for one in images])
        positives = np.stack([one.true_features[label] for one in images])
        x = np.concatenate([positives, features[overlaps < 0.3]]) * scale
        y = np.arange(len(x)) < len(positives)
        solver = LinearSVC(
            loss="hinge",
            C=1e-3,
            class_weight={1: 2.0},
            intercept_scaling=10,
            tol=1e-6,
            max_iter=1_000_000,
            random_state=1,
        ).fit(x, y.astype(int))
        expected = solver.decision_function(features * scale)
        np.testing.assert_allclose(fitted.svm(features)[:, label], expected, rtol=0, atol=1e-2)

    pooled = np.concatenate([one.pooled for one in images])
    factor = 20 / np.linalg.norm(pooled, axis=1).mean()
    best = np.concatenate([one.iou for one in images])
    for label in range(2):
        near = (best.max(axis=1) >= 0.6) & (best.argmax(axis=1) == label)
        x, y = pooled[near] * factor, np.concatenate([one.deltas for one in images])[near]
        ones = np.ones((len(x), 1))
        solver = Ridge(alpha=1000.0, fit_intercept=False).fit(np.hstack([x, ones]), y - y.mean(0))
        all_ones = np.ones((len(pooled), 1))
        expected = solver.predict(np.hstack([pooled * factor, all_ones])) + y.mean(0)
        found = fitted.ridge(pooled)[:, 4 * label : 4 * label + 4]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert not fitted.ridge(pooled)[:, 8:].any()


def test_classes_without_objects_are_named():
    images = [one._replace(labels=np.array([0, 0, 2])) for one in draw_regions(2)]
    with pytest.raises(InputError, match="classes 1"):
        fit_regions(lambda what: images, 3)


def test_the_doctor_tells_the_recall_of_the_proposals(cache):
    data = override(RECIPES["fastrcnn_digit_scenes"](), [*TINY, cache]).data
    found, count = [], 0
    for index in range(6):
        scene = draw_scene("test", index)
        boxes = propose(scene.image, data.search)
        overlaps = np.asarray(iou(jnp.asarray(scene.boxes), jnp.asarray(boxes)))
        found += overlaps.max(axis=1).tolist()
        count += len(boxes)
    shares = [(np.array(found) >= least).mean() for least in (0.5, 0.7)]
    examples = [open_detection(data, split) for split in ("train", "eval")]
    assert (
        f"eval: {count / 6:.0f} proposals of an image; {shares[0]:.3f} of the objects overlap one"
        f" with an IoU of 0.5 or more, {shares[1]:.3f} with 0.7"
    ) in checks.inspect(data, *examples).notes


def test_runs_are_timed_in_turn(rcnn, tmp_path):
    path = tmp_path / "times.json"
    arguments = [str(rcnn), str(rcnn / "svms"), "--images=4", "--batch_size=2", f"--json={path}"]
    assert eval.detection_time.main(arguments) == 0
    runs = json.loads(path.read_text())["runs"]
    assert set(runs) == {str(rcnn), str(rcnn / "svms")}
    for found in runs.values():
        assert set(found) == {"seconds", "cpu_seconds", "search_cpu_seconds"}
        assert 0 < min(found.values()) and max(found.values()) < 60
    assert eval.detection_time.main([str(rcnn), "--images=1"]) == 2


def test_runs_are_compared_in_a_table(rcnn, tmp_path):
    figures, table = tmp_path / "figures.json", tmp_path / "table.md"
    arguments = [f"--workdir={rcnn}", f"--json={figures}", "--batch_size=2"]
    assert eval.detection.main(arguments) == 0
    scores = json.loads(figures.read_text())
    arguments = [str(rcnn), "--images=2", "--batch_size=2", f"--table={table}"]
    assert eval.detection_time.main(arguments) == 0
    header, _, row = table.read_text().splitlines()
    cells = ([cell.strip() for cell in line.split("|")] for line in (header, row))
    found = dict(zip(*cells, strict=True))
    assert found["run"] == f"`{rcnn.name}`"
    assert found["AP"] == f"{scores['AP']:.3f}" and found["AP50"] == f"{scores['AP50']:.3f}"
    _, variables = zoo.load(rcnn)
    assert found["parameters"] == f"{sum(x.size for x in jax.tree.leaves(variables['params'])):,}"
    assert float(found["ms an image"]) > 0 and float(found["ms of CPU"]) > 0
