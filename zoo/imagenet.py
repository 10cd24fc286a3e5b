"""The names of ImageNet's classes."""

from functools import cache
from pathlib import Path


@cache
def imagenet_names() -> tuple[str, ...]:
    """The words that WordNet 3.0 has for each of the 1,000 classes of ILSVRC 2012, by label.

    Classifiers of timm, torchvision and others have the classes in this order. The file of the
    names states its licence.

    >>> imagenet_names()[281], len(imagenet_names())
    ('tabby, tabby cat', 1000)
    """
    lines = Path(__file__).with_name("imagenet_names.txt").read_text("utf-8").splitlines()
    return tuple(line for line in lines if not line.startswith("#"))
