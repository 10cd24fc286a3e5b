"""Goldens of CenterNet for boxes in space: the authors' code; `centernet` says what they need."""

import types
from unittest import mock

import numpy as np
import torch
from torch import nn

from peers import centernet_parts as parts
from peers.centernet import nano
from peers.centernet_parts import DEPTHS, LEVELS, MOST, SIDES, as_ours
from peers.checkouts import centernet
from peers.detr import padded_batch
from peers.draws import write

HEADS = {"hm": 3, "dep": 1, "rot": 8, "dim": 3, "wh": 2, "reg": 2}
OURS = {
    "hm": "heat_logits",
    "wh": "sizes",
    "reg": "offsets",
    "dep": "depth_logits",
    "rot": "rotations",
    "dim": "dimensions",
}
CAMERA = [[70.7, 0, 30.4, 4.58], [0, 70.7, 18.1, -0.35], [0, 0, 1, 0.005]]
BOXES = [[[8.0, 2, 30.25, 30], [40, 4, 64, 31]], [[5, 10, 38, 30.5], [40.3, 11, 51.6, 31.5]]]
LABELS = [[1, 0], [2, 1]]
# Angles in the first bin, in both, in the second, and in both at their other ends.
ALPHAS = [[-1.2, 0.3], [2.0, -2.9]]
DIMENSIONS = [[[1.5, 1.6, 4.0], [1.8, 0.6, 0.9]], [[1.7, 0.5, 1.8], [1.4, 1.7, 3.6]]]
LOCATIONS = [[[1.0, 1.6, 12.0], [-3, 1.5, 7.5]], [[0.2, 1.4, 21], [5, 1.7, 33]]]


@torch.no_grad()
def goldens() -> None:
    """A narrow DLA."""
    code, model = centernet(), parts.narrow_dla(HEADS)
    x, valid = padded_batch(*SIDES)
    found = parts.precise(model)(x[:, [2, 1, 0]].double())[-1]
    arrays = {OURS[k]: as_ours(v) for k, v in found.items()}
    depth = 1.0 / (found["dep"].sigmoid() + 1e-6) - 1.0
    rest = (found["rot"], depth, found["dim"], found["wh"], found["reg"])
    decoded = code.decode.ddd_decode(found["hm"].sigmoid(), *rest, K=MOST).numpy()
    for i in range(2):
        arrays |= {f"solids/{i}/{k}": v for k, v in in_space(code, decoded[i : i + 1]).items()}
    batch = parts.stacked([targets(code, i) for i in range(2)])
    losses = {"hm": parts.heat_loss(code, found["hm"], batch["hm"])}
    plain = code.losses.L1Loss()
    for key, mask in (("wh", "rot"), ("reg", "rot"), ("dep", "reg"), ("dim", "reg")):
        maps = depth if key == "dep" else found[key]
        losses[key] = plain(maps, batch[f"{mask}_mask"], batch["ind"], batch[key].double())
    losses["wh"] *= 0.1
    losses["rot"] = code.losses.BinRotLoss()(
        found["rot"], batch["rot_mask"], batch["ind"], batch["rotbin"], batch["rotres"]
    )
    backbone = {"depths": DEPTHS, "level_dims": LEVELS}
    write(
        "centernet_3d_centernet",
        {
            "name": "centernet_3d_dla34",
            "fields": {"head_dim": 6, "most": MOST, "backbone_fields": backbone},
            "source": "centernet",
        },
        {"images": as_ours(x), "valid": valid},
        {
            **{k: v.float() if v.is_floating_point() else v for k, v in arrays.items()},
            **{f"losses/{key}": value for key, value in losses.items()},
            "camera/matrix": torch.tensor(CAMERA),
            "targets/boxes": torch.tensor(BOXES),
            "targets/labels": torch.tensor(LABELS),
            "targets/counts": torch.tensor([2, 2]),
            "targets/alphas": torch.tensor(ALPHAS),
            "targets/dimensions": torch.tensor(DIMENSIONS),
            "targets/locations": torch.tensor(LOCATIONS),
        },
        model.state_dict(),
        tolerance=1e-4 * max(float(arrays[name].abs().max()) for name in OURS.values()),
    )


def in_space(code, decoded: np.ndarray) -> dict[str, torch.Tensor]:
    """The boxes in space of one image, best first."""
    height, width = SIDES
    options = types.SimpleNamespace(output_w=width // 4, output_h=height // 4, num_classes=3)
    centre, size = np.array([width / 2, height / 2]), np.array([width, height])
    camera = np.array(CAMERA, np.float32)
    arguments = decoded.copy(), [centre], [size], [camera], options
    (by_class,) = code.post_process.ddd_post_process(*arguments)
    rows = np.concatenate(
        [np.insert(rows, 0, k - 1, axis=1) for k, rows in by_class.items() if len(rows)]
    )
    rows = torch.tensor(rows[np.argsort(-rows[:, -1], kind="stable")])
    return {
        "labels": rows[:, 0].long(),
        "alphas": rows[:, 1],
        "boxes": rows[:, 2:6],
        "dimensions": rows[:, 6:9],
        "locations": rows[:, 9:12],
        "rotations": rows[:, 12],
        "scores": rows[:, 13],
    }


def targets(code, image: int) -> dict[str, np.ndarray]:
    """The authors' targets of an image."""
    boxes = np.array(BOXES[image])
    corner_and_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    objects = [
        {
            "bbox": box,
            "category_id": LABELS[image][i],
            "alpha": ALPHAS[image][i],
            "dim": DIMENSIONS[image][i],
            "depth": LOCATIONS[image][i][2],
        }
        for i, box in enumerate(corner_and_size.tolist())
    ]
    more = {"max_objs": 2, "alpha_in_degree": False, "calib": CAMERA}
    return parts.sample(code.solid.DddDataset, objects, 3, **more)


def models() -> dict[str, nn.Module]:
    """The authors' model for our names, without weights that nothing uses."""
    code = centernet()
    with mock.patch.object(code.dla.DLA, "load_pretrained_model", lambda *_, **__: None):
        dla = code.dla.get_pose_net(34, HEADS)
    dla.base.level3.project = dla.base.level4.project = None
    return {"centernet_3d_dla34": dla, "centernet_3d_nano": nano(code, HEADS)}
