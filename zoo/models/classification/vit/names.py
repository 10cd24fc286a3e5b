"""ViT's name maps, one for each source and layout; if two fit equally well, the first is used.

Hugging Face's bare model, `ViTModel`, lacks the prefix and the head that a classifier has. Files
written by `save_pretrained` keep the names of transformers 4; a `state_dict` of transformers 5 has
other names.
"""

from functools import partial

from zoo.family import NameMap
from zoo.models.classification.vit import big_vision, layouts, mae_encoder, prepared
from zoo.weights.blocks import HUGGINGFACE_FILE, HUGGINGFACE_STATE
from zoo.weights.maps import BATCH_COUNTERS

_POOLER = {"*pooler.dense.*": "the pooler; only a model with representation_dim uses it"}

HUGGINGFACE_EPSILON = {"norm_epsilon": 1e-12}  # the default of their ViT and MAE

_HUGGINGFACE = [
    {"prefix": prefix, "names": names}
    for names in (HUGGINGFACE_FILE, HUGGINGFACE_STATE)
    for prefix in ("vit.", "")
]

NAMES = (
    NameMap("zoo", mae_encoder.zoo, mae_encoder.ZOO_REASONS, implied=mae_encoder.implied),
    NameMap("timm", layouts.timm, preprocessing=prepared.timm),
    NameMap("torchvision", layouts.torchvision, preprocessing=prepared.torchvision),
    *(
        NameMap(
            "huggingface",
            partial(layouts.huggingface, **layout),
            _POOLER,
            HUGGINGFACE_EPSILON,
            preprocessing=prepared.huggingface,
            wrapped=bool(layout["prefix"]),
        )
        for layout in _HUGGINGFACE
    ),
    *(
        NameMap(
            "huggingface",
            partial(mae_encoder.huggingface, **layout),
            mae_encoder.reasons(f"{layout['prefix']}layernorm.*", "decoder.*"),
            HUGGINGFACE_EPSILON,
            mae_encoder.implied,
            prepared.mae,
        )
        for layout in _HUGGINGFACE
    ),
    NameMap("fair", layouts.fair, BATCH_COUNTERS, preprocessing=prepared.mae),
    NameMap(
        "fair",
        mae_encoder.fair,
        mae_encoder.FAIR_REASONS,
        implied=mae_encoder.implied,
        preprocessing=prepared.mae,
    ),
    NameMap("big_vision", partial(big_vision.vit, numbers=(0, 0, 1, 0), of_token=False)),
    NameMap("big_vision", partial(big_vision.vit, numbers=(0, 1, 2, 3), of_token=True)),
)
