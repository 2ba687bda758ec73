"""The same classifier as a TorchScript file, as older pipelines hand it over.

python torchscript.py fraud.pt
slipway export fraud.pt --input "features=FP32[batch,4]" --output probabilities
"""

import sys

import torch
from fraud import model

torch.jit.script(model.eval()).save(sys.argv[1])
