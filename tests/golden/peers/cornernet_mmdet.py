"""Goldens of CornerNet, made by mmdet 3.3; `faster_rcnn_mmdet` says what they need."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch

from peers.checkouts import mmdet_whole
from peers.cornernet import (
    CLASSES,
    CORNERS,
    DIMS,
    HEAD_DIM,
    OUT_DIM,
    PAIRS,
    POOL_DIM,
    arranged,
    found_objects,
    maps,
    padded_valid,
    save,
    truth,
)
from peers.faster_rcnn_mmdet import configuration

CONFIG = "cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco.py"
BLOCKS = (2, 1, 1)


def goldens() -> None:
    """A narrow network."""
    network = mmdet_network(DIMS, BLOCKS, OUT_DIM, POOL_DIM, HEAD_DIM, CLASSES)
    save("cornernet_mmdet", "mmdet", network, BLOCKS, run_mmdet)


@contextmanager
def narrow_heads(pool_dim: int, head_dim: int) -> Iterator[None]:
    """Changes the numbers of features that mmdet's corner head does not let one choose."""
    mmdet_whole()
    from mmdet.models.dense_heads.corner_head import BiCornerPool, CornerHead

    pools = BiCornerPool.__init__
    heads = CornerHead._make_layers
    with (
        mock.patch.object(pools, "__defaults__", (pool_dim, *pools.__defaults__[1:])),
        mock.patch.object(heads, "__defaults__", (heads.__defaults__[0], head_dim)),
    ):
        yield


def mmdet_network(
    dims: tuple[int, ...],
    blocks: tuple[int, ...],
    out_dim: int,
    pool_dim: int,
    head_dim: int,
    classes: int,
    stacks: int = 2,
) -> torch.nn.Module:
    """The published configuration with other sizes."""
    settings = configuration(CONFIG)
    settings.backbone.update(
        downsample_times=len(dims) - 1,
        stage_channels=list(dims),
        stage_blocks=list(blocks),
        feat_channel=out_dim,
        num_stacks=stacks,
    )
    settings.bbox_head.update(num_classes=classes, in_channels=out_dim, num_feat_levels=stacks)
    del settings.backbone["init_cfg"]
    with narrow_heads(pool_dim, head_dim):
        return mmdet_whole().registry.MODELS.build(settings)


def run_mmdet(model: torch.nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Everything that mmdet computes."""
    from mmengine.structures import InstanceData

    head, outputs = model.bbox_head, maps(model, images)
    meta = {"batch_input_shape": images.shape[-2:], "border": [0, 0, 0, 0]}
    heat = [x.sigmoid() for x in outputs[-6:-4]]
    boxes, scores, labels = head._decode_heatmap(
        *heat,
        tl_emb=outputs[-4],
        br_emb=outputs[-3],
        tl_off=outputs[-2],
        br_off=outputs[-1],
        img_meta=meta,
        k=CORNERS,
        kernel=3,
        distance_threshold=0.5,
        num_dets=PAIRS,
    )
    found = found_objects(boxes, scores[..., 0], labels[..., 0].long(), padded_valid())
    boxes, labels, counts = truth()
    objects = [
        InstanceData(bboxes=boxes[i, :n].double(), labels=labels[i, :n])
        for i, n in enumerate(counts)
    ]
    levels = [list(outputs[i::6]) for i in range(6)]
    losses = head.loss_by_feat(*levels, batch_gt_instances=objects, batch_img_metas=[meta] * 2)
    return (
        arranged(outputs)
        | found
        | {
            "targets/boxes": boxes,
            "targets/labels": labels,
            "targets/counts": torch.tensor(counts),
            **{f"losses/{key}": sum(value) for key, value in losses.items()},
        }
    )


def models() -> dict[str, torch.nn.Module]:
    """The peer's model for our name."""
    nano = mmdet_network((64, 96, 128), (1, 1, 1), 64, 32, 48, 80, stacks=1)
    del nano.backbone.inters  # a block that nothing uses
    return {"cornernet_nano": nano}
