"""Our own names, and a part of a model of ours as a model of its own: MAE's encoder as a ViT."""

from flax import linen as nn

from zoo.weights.mae import implied, reasons
from zoo.weights.maps import SAME, NameMap, Rule

# For any model.
ZOO = NameMap("zoo", lambda model: (Rule("{path}", ("{path}",), SAME),))


def _encoder(model: nn.Module) -> tuple[Rule, ...]:
    """The encoder of a `MAE` as a ViT: its fixed positions are learned from here on."""
    collection = "fixed" if model.positions == "fixed" else "params"
    return (
        *(
            Rule(f"fixed/encoder/{name}", (f"{collection}/{name}",), SAME)
            for name in ("pos_embed", "cls_pos_embed")
        ),
        Rule("params/encoder/{path}", ("params/{path}",), SAME),
    )


MAPS = {
    "ViT": (
        NameMap(
            "zoo",
            _encoder,
            reasons("params/encoder/norm/*", "params/decoder/*", "fixed/decoder/*"),
            implied=implied,
        ),
    ),
}
