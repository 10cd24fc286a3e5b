"""Says when a program is compiled, because that takes long and shows nothing else."""

import functools
import time
from collections.abc import Callable
from typing import TypeVar

import jax

Result = TypeVar("Result")


def _print(text: str) -> None:
    if jax.process_index() == 0:
        print(text, flush=True)


def announced(
    program: Callable[..., Result],
    what: str = "the evaluation",
    say: Callable[[str], None] = _print,
) -> Callable[..., Result]:
    """A jitted function that says when it compiles, and afterwards how long this took.

    The time includes that of the first call, whose result is waited for. A call with arguments of
    other shapes compiles again. The first argument, such as a state, always has the same shapes.

    Args:
        program: A function that `jax.jit` returned.
        what: Name of the program in the messages.
        say: Shows a line; by default the first process prints it.
    """
    known = set()

    @functools.wraps(program)
    def call(*args: object) -> Result:
        shapes = tuple(getattr(x, "shape", None) for x in jax.tree.leaves(args[1:]))
        if shapes in known:
            return program(*args)
        known.add(shapes)
        say(f"compiling {what} ...")
        begin = time.monotonic()
        result = jax.block_until_ready(program(*args))
        say(f"compiled {what} in {time.monotonic() - begin:.1f} s")
        return result

    return call
