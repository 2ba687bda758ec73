"""KServe's model server with an ONNX model."""

import os
import sys

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from onnx_model import OnnxModel


class Onnx(Model):
    def load(self) -> bool:
        self.onnx = OnnxModel()
        self.ready = True
        return True

    async def predict(self, payload: InferRequest, *_: object, **__: object) -> InferResponse:
        found = self.onnx.run({given.name: given.as_numpy() for given in payload.inputs})
        outputs = []
        for name, array in found.items():
            output = InferOutput(name=name, shape=list(array.shape), datatype="FP32")
            output.set_data_from_numpy(array, binary_data=False)
            outputs.append(output)
        return InferResponse(
            response_id=payload.id or "", model_name=self.name, infer_outputs=outputs
        )


if __name__ == "__main__":
    sys.argv += ["--enable_grpc=false", f"--http_port={os.environ['PORT']}"]
    import kserve

    arguments = kserve.model_server.parser.parse_args()
    model = Onnx("m")
    model.load()
    ModelServer(http_port=arguments.http_port, enable_grpc=False, workers=1).start([model])
