"""What detection data to read, how to augment them, and the shapes of examples."""

import dataclasses
from typing import Literal

from zoo.data.augment.picture import Size
from zoo.data.chips import ChipScale
from zoo.data.errors import DataError
from zoo.types import ProposalSearch

_SEARCH = ProposalSearch()


@dataclasses.dataclass(frozen=True)
class DetectionData:
    """What to train and evaluate on; the defaults are the embedded digit scenes.

    Attributes:
        source: ``digit_scenes``; ``coco:DIR`` with the folders of COCO's downloads, or with the
            paths in `train_annotations` to `eval_images`; ``voc:DIR`` with the folders of PASCAL
            VOC's devkit, or with xml files beside the images of each split; or a TFDS set such as
            ``voc/2007``.
        data_dir: Folder of TFDS's data sets; None is ``~/tensorflow_datasets``.
        train_split: ``train``, ``train2017``, ..., or a slice such as ``train[:90%]``. COCO's and
            VOC's images are sliced in a fixed shuffled order. Digit scenes have only slices with a
            number of scenes, from the first on: ``train[:1000]``.
        eval_split: The same for evaluation.
        train_annotations: Path of COCO's json in DIR; None is
            ``annotations/instances_SPLIT.json``, or with `keypoints`
            ``annotations/person_keypoints_SPLIT.json``.
        train_images: Path of the folder of images in DIR; None is ``SPLIT``.
        eval_annotations: The same for evaluation.
        eval_images: The same for evaluation.
        buckets: Heights and widths of padded images; the bucket of an image depends only on the
            size of that image.
        mean: Mean of the pixels on a scale of 0..1, for each channel; None means the model's own,
            which a run fills in.
        std: Standard deviation on the same scale; None means the model's own.
        max_objects: Largest number of training targets in an image.
        too_many: What happens if an image has more: ``stop`` raises an error before the run begins;
            ``drop_smallest`` leaves out the smallest objects.
        short_sides: The length of the shorter side is drawn from these in training; evaluation
            takes the largest. If this is empty, images keep their size.
        long_side: Maximum length of the longer side.
        letterbox: Put each image, as large as fits, into the middle of its bucket, which is grey,
            as darknet does; then there are no `short_sides`.
        random_crop: Crop training images as DETR does, with probability 1/2.
        scale_jitter: Smallest and largest factor by which training images are resized, of the size
            that just fits into their bucket; of a larger one a random part is taken (0.1 and 2 in
            EfficientDet). It replaces `short_sides` in training. None does neither.
        zoom: Training takes square parts of the images, whose side is the longer side of the image
            times a number between these two; what is outside the image is black. ``(0.6, 1.3)`` for
            CornerNet and CenterNet: see `zoo.data.augment.zoom.random_zoom`. None takes images.
        zoom_side: With `zoom`: height and width of these parts, in training instead of `buckets`.
        flip: Mirror training images left and right with probability 1/2.
        masks: Whether examples have instance masks; COCO's annotations must have them then.
        mask_size: With `masks`: each mask has this many rows and columns of cells in the object's
            own box, for R-CNNs. None: bitmaps of the whole padded image, as DETR needs them; at
            COCO's sizes they take 85 times the memory of 112 x 112 cells.
        keypoints: Whether examples have keypoints; COCO's annotations must have them then.
        sigmas: With `keypoints`: the standard deviation of each joint's annotations, relative to
            the square root of the object's area, by which evaluation judges distances (OKS). Empty
            takes COCO's for 17 joints, and for other numbers their mean, 0.067, for each joint.
        proposals: ``selective_search`` gives each example the regions that selective search finds
            in the image, for models that take proposals; None gives none.
        search: How it proposes regions; each example has its `num_proposals` of them.
        proposal_cache: Folder of the files with the proposals of each data set; None is
            ``$XDG_CACHE_HOME/jax-vision-zoo/proposals``, by default in ``~/.cache``.
        chips: With scales, training takes chips of the images, as SNIPER does: parts at these
            scales, each with the objects of its sizes; objects of other sizes, and parts of
            objects, are ignored by R-CNNs and are background for other detectors.
            `zoo.data.chips.SNIPER_SCALES` are for COCO. Evaluation takes whole images all the same.
        chip_side: Height and width of chips; training then has this one shape instead of `buckets`.
        chip_stride: Distance of the places that chips can have, in pixels of the chip.
        chip_proposals: COCO results json with what a briefly trained detector found in the training
            images (``python -m eval.detection --split=SPLIT --results=FILE``): further chips cover
            what it found outside of the others. Without it there are only chips with objects, and
            images without objects are not trained on.
        chip_negatives: Largest number of such further chips of an image.
        upright: Apply EXIF's orientation, as annotation tools do when they show an image. Set it to
            False if the boxes refer to the pixels as they are stored.
        on_error: What happens if an image cannot be read: ``stop`` ends the run with an error;
            ``skip`` leaves the image out, counts it and logs its name.
        threads: Threads that read and decode.
        workers: Worker processes with that many threads each; with 0, this process does the work.
    """

    source: str = "digit_scenes"
    data_dir: str | None = None
    train_split: str = "train"
    eval_split: str = "test"
    train_annotations: str | None = None
    train_images: str | None = None
    eval_annotations: str | None = None
    eval_images: str | None = None
    buckets: tuple[Size, ...] = ((64, 64),)
    mean: tuple[float, float, float] | None = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] | None = (0.5, 0.5, 0.5)
    max_objects: int = 6
    too_many: Literal["stop", "drop_smallest"] = "stop"
    short_sides: tuple[int, ...] = ()
    long_side: int = 1333
    letterbox: bool = False
    random_crop: bool = False
    scale_jitter: tuple[float, float] | None = None
    zoom: tuple[float, float] | None = None
    zoom_side: int = 512
    flip: bool = False
    masks: bool = False
    mask_size: int | None = None
    keypoints: bool = False
    sigmas: tuple[float, ...] = ()
    proposals: Literal["selective_search"] | None = None
    search: ProposalSearch = _SEARCH
    proposal_cache: str | None = None
    chips: tuple[ChipScale, ...] = ()
    chip_side: int = 512
    chip_stride: int = 32
    chip_proposals: str | None = None
    chip_negatives: int = 2
    upright: bool = True
    on_error: Literal["stop", "skip"] = "stop"
    threads: int = 16
    workers: int = 0


def check_config(config: DetectionData) -> None:
    """Rejects values that would fail later, or would have an unintended effect."""
    c = config
    of_coco = c.source.partition(":")[0] == "coco"
    rules = {
        "buckets": (
            bool(c.buckets) and min(map(min, c.buckets)) >= 1,
            "one or more heights and widths in pixels, as [[800,1088],[1088,800]]",
        ),
        "std": (c.std is None or min(c.std) > 0, "positive"),
        "max_objects": (c.max_objects >= 1, "1 or more"),
        "short_sides": (min(c.short_sides, default=1) >= 1, "positive numbers of pixels"),
        "long_side": (c.long_side >= 1, "a positive number of pixels"),
        "random_crop": (
            not c.random_crop or (bool(c.short_sides) and not c.chips),
            "false without short_sides, or with chips",
        ),
        "letterbox": (
            not c.letterbox
            or not (c.short_sides or c.masks or c.chips or c.proposals or c.scale_jitter or c.zoom),
            "false with short_sides, scale_jitter, zoom, masks, chips or proposals",
        ),
        "scale_jitter": (
            c.scale_jitter is None
            or (
                0 < c.scale_jitter[0] <= c.scale_jitter[1]
                and not (c.random_crop or c.zoom or c.chips or c.mask_size)
            ),
            "two positive factors, the larger one last, or none; and none with random_crop, zoom,"
            " chips or mask_size",
        ),
        "zoom": (
            c.zoom is None
            or (0 < c.zoom[0] <= c.zoom[1] and not (c.random_crop or c.chips or c.mask_size)),
            "two positive numbers, the smaller first, or none; and none with data.random_crop,"
            " data.chips or data.mask_size",
        ),
        "zoom_side": (c.zoom_side >= 1, "a positive number of pixels"),
        "chips": (
            all(scale.usable for scale in c.chips) and not (c.chips and c.proposals),
            "scales with a factor or a long_side, and smallest below largest; and none with"
            " data.proposals",
        ),
        "chip_side": (c.chip_side >= 1, "a positive number of pixels"),
        "chip_stride": (c.chip_stride >= 1, "a positive number of pixels"),
        "chip_negatives": (c.chip_negatives >= 0, "0 or more"),
        "chip_proposals": (c.chip_proposals is None or bool(c.chips), "none without data.chips"),
        "mask_size": (
            c.mask_size is None or (c.masks and c.mask_size >= 1 and not c.random_crop),
            "1 or more, or none; none without data.masks, or with random_crop",
        ),
        "keypoints": (not c.keypoints or of_coco, "false unless data.source=coco:DIR"),
        "sigmas": (min(c.sigmas, default=1) > 0, "positive numbers"),
        "threads": (c.threads >= 0, "0 or more"),
        "workers": (c.workers >= 0, "0 or more"),
    }
    for field in ("train_annotations", "train_images", "eval_annotations", "eval_images"):
        rules[field] = (getattr(c, field) is None or of_coco, "none unless data.source=coco:DIR")
    for field, (allowed, rule) in rules.items():
        if not allowed:
            raise DataError(f"data.{field} is {getattr(c, field)}, but must be {rule}")
