"""KServe's model server with an ONNX model."""

import os
import sys

import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1


class Onnx(Model):
    def load(self) -> bool:
        self.session = onnxruntime.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )
        self.ready = True
        return True

    async def predict(self, payload: InferRequest, *_: object, **__: object) -> InferResponse:
        row = payload.inputs[0].as_numpy()
        (output,) = self.session.run(None, {"x": row})
        result = InferOutput(name="y", shape=list(output.shape), datatype="FP32")
        result.set_data_from_numpy(output, binary_data=False)
        return InferResponse(
            response_id=payload.id or "", model_name=self.name, infer_outputs=[result]
        )


if __name__ == "__main__":
    sys.argv += ["--enable_grpc=false", f"--http_port={os.environ['PORT']}"]
    import kserve

    arguments = kserve.model_server.parser.parse_args()
    model = Onnx("mlp")
    model.load()
    ModelServer(http_port=arguments.http_port, enable_grpc=False, workers=1).start([model])
