"""A plain .onnx file, made with the onnx package alone: y = 2 x + 1.

python make.py model.onnx
slipway push model.onnx --to s3://models/line
"""

import sys

import onnx

MODEL = """
<ir_version: 10, opset_import: ["" : 20]>
line (float[batch, 1] x) => (float[batch, 1] y) {
    two = Constant <value = float {2.0}> ()
    one = Constant <value = float {1.0}> ()
    doubled = Mul (x, two)
    y = Add (doubled, one)
}
"""

onnx.save(onnx.parser.parse_model(MODEL), sys.argv[1])
