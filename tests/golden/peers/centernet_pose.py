"""Goldens of CenterNet for people, made by the authors' code; `centernet` says what they need."""

from unittest import mock

import numpy as np
import torch
from torch import nn

from peers import centernet_parts as parts
from peers.centernet import nano
from peers.centernet_parts import DEPTHS, LEVELS, MOST, as_ours
from peers.checkouts import centernet
from peers.detr import padded_batch
from peers.draws import write

JOINTS, SIDES = 3, (64, 64)
OURS = {
    "hm": "heat_logits",
    "wh": "sizes",
    "reg": "offsets",
    "hps": "joints",
    "hm_hp": "joint_heat_logits",
    "hp_offset": "joint_offsets",
}
BOXES = [[[8.0, 2, 30.25, 60], [20, 4, 64, 31]], [[5, 10, 38, 30.5], [40.3, 11, 51.6, 31.5]]]
# The last person of the first image has a joint outside of the map; of the second, no labelled one.
KEYPOINTS = [
    [[[10.0, 5, 2], [22, 30, 1], [0, 0, 0]], [[25, 9, 2], [66, 20, 1], [60.5, 30, 2]]],
    [[[0, 0, 0], [30.2, 12.7, 2], [9, 29, 2]], [[0, 0, 0], [0, 0, 0], [0, 0, 0]]],
]


def heads(joints: int) -> dict[str, int]:
    """Their heads."""
    return {"hm": 1, "wh": 2, "hps": 2 * joints, "reg": 2, "hm_hp": joints, "hp_offset": 2}


@torch.no_grad()
def goldens() -> None:
    """A narrow DLA with three joints."""
    code, model = centernet(), parts.narrow_dla(heads(JOINTS), reach=0.125)
    model.wh[-1].bias += 20  # large boxes, with peaks of joints inside
    x, valid = padded_batch(*SIDES)
    found = parts.precise(model)(x[:, [2, 1, 0]].double())[-1]
    arrays = {OURS[k]: as_ours(v) for k, v in found.items()}
    decoded = code.decode.multi_pose_decode(
        found["hm"].sigmoid(),
        found["wh"],
        found["hps"],
        found["reg"],
        found["hm_hp"].sigmoid(),
        found["hp_offset"],
        K=MOST,
    )
    for i, one in enumerate(decoded):
        arrays |= {
            f"detections/{i}/boxes": one[:, :4] * 4,
            f"detections/{i}/scores": one[:, 4],
            f"detections/{i}/labels": one[:, -1].long(),
            f"detections/{i}/joints": one[:, 5:-1].unflatten(1, (JOINTS, 2)) * 4,
        }
    batch = parts.stacked([targets(code, i) for i in range(2)])
    for key in ("hm", "hm_hp"):
        arrays[f"losses/{key}"] = parts.heat_loss(code, found[key], batch[key])
    for key, mask, index in (
        ("wh", "reg_mask", "ind"),
        ("reg", "reg_mask", "ind"),
        ("hps", "hps_mask", "ind"),
        ("hp_offset", "hp_mask", "hp_ind"),
    ):
        arrays[f"losses/{key}"] = parts.loss_l1(code, found[key], batch, mask, index, key)
    arrays["losses/wh"] *= 0.1
    write(
        "centernet_pose_centernet",
        {
            "name": "centernet_pose_dla34",
            "fields": {
                "num_keypoints": JOINTS,
                "head_dim": 6,
                "most": MOST,
                "backbone_fields": {"depths": DEPTHS, "level_dims": LEVELS},
            },
            "source": "centernet",
        },
        {"images": as_ours(x), "valid": valid},
        {
            **{k: v.float() if v.is_floating_point() else v for k, v in arrays.items()},
            "targets/boxes": torch.tensor(BOXES),
            "targets/keypoints": torch.tensor(KEYPOINTS),
            "targets/labels": torch.zeros(2, 2, dtype=torch.long),
            "targets/counts": torch.tensor([2, 2]),
        },
        model.state_dict(),
        tolerance=1e-4 * max(float(arrays[name].abs().max()) for name in OURS.values()),
    )


def targets(code, image: int) -> dict[str, np.ndarray]:
    """The authors' targets of an image."""
    boxes = np.array(BOXES[image])
    corner_and_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    objects = [
        {"bbox": box, "category_id": 1, "keypoints": np.array(joints)}
        for box, joints in zip(corner_and_size.tolist(), KEYPOINTS[image], strict=True)
    ]
    return parts.sample(code.pose.MultiPoseDataset, objects, 1, SIDES, num_joints=JOINTS)


def models() -> dict[str, nn.Module]:
    """The authors' model for our names, without weights that nothing uses."""
    code = centernet()
    with mock.patch.object(code.dla.DLA, "load_pretrained_model", lambda *_, **__: None):
        dla = code.dla.get_pose_net(34, heads(17))
    dla.base.level3.project = dla.base.level4.project = None
    return {
        "centernet_pose_dla34": dla,
        "centernet_pose_hourglass104": code.hourglass.get_large_hourglass_net(0, heads(17), 64),
        "centernet_pose_nano": nano(code, heads(17)),
    }
