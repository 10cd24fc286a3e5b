"""How many floating-point operations a function's matrix products and convolutions need.

They are counted in the traced function. XLA's own count of a compiled program is too low: it counts
the body of a loop, and so scanned layers, only once, and leaves out the operations of libraries
such as cuDNN.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def count_flops(function: Callable[..., Any], *args: Any) -> int:
    """Twice the number of multiplications in ``function(*args)``; the arguments may be shapes.

    Of a condition, the branch with the most operations counts. The body of a loop of unknown length
    counts once. A convolution's multiplications with its padding are included.

    >>> x = jax.ShapeDtypeStruct((2, 3), "float32")
    >>> count_flops(lambda x: x @ x.T, x)
    24
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr: Jaxpr) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> int:
    """The operations of a `jax.extend.core.JaxprEqn`."""
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        (left, _), (out,) = equation.invars, equation.outvars
        return 2 * math.prod(out.aval.shape) * math.prod(left.aval.shape[i] for i in contracted)
    if name == "conv_general_dilated":
        kernel, (out,) = equation.invars[1].aval.shape, equation.outvars
        products = math.prod(kernel) // kernel[params["dimension_numbers"].rhs_spec[0]]
        # The zeros of a dilated input need no multiplication.
        return 2 * math.prod(out.aval.shape) * products // math.prod(params["lhs_dilation"])
    inner = [_count(jaxpr) for jaxpr in _inner(params)]
    if name == "cond":
        return max(inner)
    return sum(inner) * (params["length"] if name == "scan" else 1)


def _inner(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """The programs inside an equation, such as the body of a loop."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, Jaxpr):
                yield item
