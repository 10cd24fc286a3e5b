"""The peers' models, at full size and narrow, and the goldens that are made from them.

Needs PyTorch and the packages of the peers. `make_golden.py` and the checks of full-size parity
use it.
"""

import reference  # noqa: F401  first: else timm does not import with a CPU build of torch
