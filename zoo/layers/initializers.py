"""Initial values as PyTorch draws them."""

from flax import linen as nn

TORCH_LINEAR_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Of kernels of torch's Linear and Conv2d."""

TORCH_ATTENTION_INIT = nn.initializers.variance_scaling(0.5, "fan_avg", "uniform")
"""Of each of query, key and value in torch's MultiheadAttention, which draws them as one matrix."""
