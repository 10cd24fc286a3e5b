"""Makes the goldens: tiny random-weight models of the peers, with what they compute.

This and what it imports from `peers` are the only files of the repository that import torch. Run it
with the peers' Python, from the repository root, when a golden is added:

    FAIR_MAE=MAE FAIR_DETR=DETR PYTHONPATH=../shared/peers PEERS_PYTHON tests/golden/make_golden.py

where DETR and MAE are checkouts of facebookresearch/detr and mae, whose own code makes goldens.

Each `<source>_<case>.npz` holds the checkpoint (`weights/<name>`), `images` (NHWC), `logits`,
`tokens` (the encoded tokens, or a ResNet's last map), and `config`, a JSON of our model's name and
fields; those of a DETR have `valid` beside the images, and every output under its name in ours.
`parameter_counts.json` has the number of parameters of every model that the zoo registers.
"""

import random

import torch
from peers import classification, counts, data, detr, mae, text, unet

if __name__ == "__main__":
    random.seed(0)
    torch.manual_seed(0)
    data.data_transforms()
    torch.manual_seed(0)
    classification.timm_transformers()
    classification.timm_resnets()
    classification.torchvision_vit()
    classification.huggingface()
    torch.manual_seed(0)
    mae.masked_autoencoders()
    torch.manual_seed(0)
    classification.vision_transformer()
    data.torch_files()
    classification.positions()
    torch.manual_seed(0)
    detr.fair_detr()
    detr.huggingface_detr()
    detr.fair_names()
    detr.fair_masks()
    torch.manual_seed(0)
    detr.fair_panoptic()
    torch.manual_seed(0)
    unet.smp_unet()
    unet.torch_unets()
    counts.parameter_counts()
    data.preprocessing()
    text.text_transformers()
