"""Times greedy decoding with the cache of keys and values against recomputing them for each token.

PYTHONPATH=. python -m tests.zoo.decoding_speed [--tokens=128] [--rounds=5]

Runs alternate; prints the medians and their ratio. That both give the same tokens is tested in
`test_decoding.py`, and checked here too.
"""

import argparse
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import zoo
from tests.zoo.test_decoding import PAD, START, uncached
from zoo.decoding import Search, generate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    sizes = {"hidden_dim": 256, "mlp_dim": 1024, "num_heads": 4, "vocab_size": 1000}
    model = zoo.create("transformer_nano", **sizes)
    sources = jax.random.randint(jax.random.key(1), (2, 16), 3, 1000)
    valid = jnp.ones((2, 16), bool)
    variables = jax.jit(model.init)(jax.random.key(0), sources, sources)
    search = Search(START, -1, PAD, max_length=arguments.tokens)  # nothing ends it
    ways = [jax.jit(partial(way, model, search=search)) for way in (generate, uncached)]
    found = [np.asarray(way(variables, sources, valid).tokens) for way in ways]
    np.testing.assert_array_equal(*found)
    times: list[list[float]] = [[], []]
    for _ in range(arguments.rounds):
        for way, seconds in zip(ways, times, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(way(variables, sources, valid))
            seconds.append(time.perf_counter() - start)
    cached, recomputed = map(statistics.median, times)
    print(f"{recomputed / cached:.1f} x: {cached:.3f} s, recomputed {recomputed:.3f} s")


if __name__ == "__main__":
    main()
