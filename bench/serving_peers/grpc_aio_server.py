"""grpc.aio as commonly written for an ONNX model: the protocol's messages, session.run in the call.

Runs in the project's own environment; the message classes are made of tritonclient's definition.
"""

import asyncio
import os

import grpc
import numpy as np
import onnxruntime
from tritonclient.grpc import service_pb2, service_pb2_grpc

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(
    os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
)


class Inference(service_pb2_grpc.GRPCInferenceServiceServicer):
    async def ModelReady(self, request, context):  # noqa: N802, ARG002
        return service_pb2.ModelReadyResponse(ready=True)

    async def ModelInfer(self, request, context):  # noqa: N802, ARG002
        tensor = request.inputs[0]
        row = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(tensor.shape)
        (output,) = session.run(None, {"x": row})
        response = service_pb2.ModelInferResponse(model_name="mlp", model_version="1")
        response.outputs.add(name="y", datatype="FP32", shape=output.shape)
        response.raw_output_contents.append(output.tobytes())
        return response


async def main() -> None:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Inference(), server)
    server.add_insecure_port(f"127.0.0.1:{os.environ['PORT']}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
