"""Compares the times of greedy decoding with a cache of keys and values, and without a cache.

PYTHONPATH=. python -m tests.zoo.text.decoding_speed [--tokens=128] [--rounds=5]

Both run in turns; prints the medians and their ratio. `test_decoding.py` tests that both give the
same tokens; it is checked here too.
"""

import argparse
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from tests.zoo.test_decoding import PAD, START, uncached

import zoo
from zoo.text.decoding import Search, generate


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
    search = Search(START, -1, PAD, max_length=arguments.tokens)  # no token ends the search
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
