"""``python -m sdnet_core.train`` in double precision, so that rounding explains no difference; for torchrun."""

import sys

import torch

from sdnet_core.train import main

if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    sys.exit(main())
