"""Makes the goldens: tiny models of the peers with random weights, and their outputs.

Only this file and the files in `peers` that it imports may import torch. Run it with the peers'
Python, from the repository root, when a golden is added. Without names it runs all of `peers`:

    PYTHONPATH=../shared/peers PEERS_PYTHON tests/golden/make_golden.py FAMILY ...

For detr and mae, put `FAIR_DETR=DETR FAIR_MAE=MAE` before the command: their goldens are made by
the authors' code. DETR and MAE are checkouts of facebookresearch/detr and facebookresearch/mae.
For faster_rcnn_detectron2, faster_rcnn_c4, tridentnet, cascade_rcnn and rcnn_heads_detectron2, put
`PYTORCH_JIT=0 DETECTRON2=DETECTRON2` before the command, with a checkout of
facebookresearch/detectron2. Their files and faster_rcnn_mmdet say which packages they need.

`peers/<family>.py` has two functions: `goldens()` writes the files of the family, and `models()`
gives the peer's model for each of our names. Each module starts with the same seed, so its files
can be made without the other modules.

Each `<family>_<source>_<case>.npz` holds the checkpoint (`weights/<name>`), the inputs of the
model, its outputs under their names in ours (`logits`; an attribute of our output; a method of our
model, such as `tokens`), and `config`, a JSON that `peers.draws.write` describes.
`parameter_counts.json` has the number of parameters of every registered model.
`preprocessing.json` has timm's preprocessing of the models that timm has.
"""

import importlib
import json
import pkgutil
import random
import sys

import peers
import torch
from peers.data import preprocessing
from peers.draws import HERE, count

COUNTS = HERE / "parameter_counts.json"


def main(names: list[str]) -> None:
    """Makes the files of the named modules of `peers`, or of all modules."""
    known = [module.name for module in pkgutil.iter_modules(peers.__path__)]
    if unknown := set(names) - set(known):
        sys.exit(f"peers has no {', '.join(sorted(unknown))}; it has {', '.join(known)}")
    counts = json.loads(COUNTS.read_text()) if names else {}
    for name in names or known:
        module = importlib.import_module(f"peers.{name}")
        random.seed(0)
        torch.manual_seed(0)
        if hasattr(module, "goldens"):
            module.goldens()
        if hasattr(module, "models"):
            with torch.device("meta"):
                counts |= {ours: count(model) for ours, model in module.models().items()}
    COUNTS.write_text(json.dumps(dict(sorted(counts.items())), indent=2) + "\n")
    preprocessing()


if __name__ == "__main__":
    main(sys.argv[1:])
