"""The peers' models, at full size and narrow, and what goldens are made of them.

Needs PyTorch and the peers' packages: `make_golden.py` and the checks of full-size parity use it.
"""

import reference  # noqa: F401  for its effect: timm then imports with a CPU build of torch
