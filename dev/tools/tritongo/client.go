package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

const (
	service   = "inference.GRPCInferenceService"
	largest   = 256 << 20
	unheardOf = "unheard-of"
)

// client is a connection and the service's messages.
type client struct {
	*grpc.ClientConn
	dialed         atomic.Int64
	methods        protoreflect.MethodDescriptors
	request        protoreflect.MessageDescriptor
	response       protoreflect.MessageDescriptor
	streamResponse protoreflect.MessageDescriptor
}

func connect(ctx context.Context, address string, options ...grpc.DialOption) (*client, error) {
	made := &client{}
	options = append(options,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(largest), grpc.MaxCallSendMsgSize(largest)),
		grpc.WithContextDialer(func(ctx context.Context, target string) (net.Conn, error) {
			made.dialed.Add(1)
			return (&net.Dialer{}).DialContext(ctx, "tcp", target)
		}),
		grpc.WithDisableRetry(),
	)
	var err error
	if made.ClientConn, err = grpc.NewClient("passthrough:///"+address, options...); err != nil {
		return nil, err
	}
	found, err := made.reflected(ctx)
	if err != nil {
		return nil, fmt.Errorf("reflection: %w", err)
	}
	made.methods = found.Methods()
	made.request = made.methods.ByName("ModelInfer").Input()
	made.response = made.methods.ByName("ModelInfer").Output()
	made.streamResponse = made.methods.ByName("ModelStreamInfer").Output()
	return made, nil
}

// reflected asks the server what its service is like, in the protocol's present version or, where
// that is not known, in the one before, whose messages are the same.
func (c *client) reflected(ctx context.Context) (protoreflect.ServiceDescriptor, error) {
	var err error
	for _, version := range []string{"v1", "v1alpha"} {
		var found protoreflect.ServiceDescriptor
		found, err = c.reflectedBy(ctx, "/grpc.reflection."+version+".ServerReflection/ServerReflectionInfo")
		if status.Code(err) != codes.Unimplemented {
			return found, err
		}
	}
	return nil, err
}

func (c *client) reflectedBy(ctx context.Context, method string) (protoreflect.ServiceDescriptor, error) {
	asking, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return nil, err
	}
	err = asking.SendMsg(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{
			FileContainingSymbol: service,
		},
	})
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var answer reflectionpb.ServerReflectionResponse
	if err := asking.RecvMsg(&answer); err != nil {
		return nil, err
	}
	if err := asking.CloseSend(); err != nil {
		return nil, err
	}
	if err := ended(asking); err != nil {
		return nil, err
	}
	var set descriptorpb.FileDescriptorSet
	for _, content := range answer.GetFileDescriptorResponse().GetFileDescriptorProto() {
		var file descriptorpb.FileDescriptorProto
		if err := proto.Unmarshal(content, &file); err != nil {
			return nil, err
		}
		set.File = append(set.File, &file)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return nil, err
	}
	found, err := files.FindDescriptorByName(service)
	if errors.Is(err, protoregistry.NotFound) {
		return nil, fmt.Errorf("%s is in none of %d files", service, len(set.File))
	} else if err != nil {
		return nil, err
	}
	return found.(protoreflect.ServiceDescriptor), nil
}

// ended reads the end of a stream, which must be a good one.
func ended(stream grpc.ClientStream) error {
	if err := stream.RecvMsg(&descriptorpb.FileDescriptorProto{}); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the end of a stream was expected, not: %w", err)
	}
	return nil
}

func (c *client) infer(ctx context.Context, request proto.Message, options ...grpc.CallOption) (protoreflect.Message, error) {
	answer := dynamicpb.NewMessage(c.response)
	err := c.Invoke(ctx, "/"+service+"/ModelInfer", request, answer, options...)
	return answer, err
}

func (c *client) stream(ctx context.Context) (grpc.ClientStream, error) {
	description := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	return c.NewStream(ctx, description, "/"+service+"/ModelStreamInfer")
}

// streamed reads one answer of a stream and returns its tensor.
func (c *client) streamed(stream grpc.ClientStream) ([]byte, error) {
	answer := dynamicpb.NewMessage(c.streamResponse)
	if err := stream.RecvMsg(answer); err != nil {
		return nil, err
	}
	fields := c.streamResponse.Fields()
	if text := answer.Get(fields.ByName("error_message")).String(); text != "" {
		return nil, errors.New(text)
	}
	return c.raw(answer.Get(fields.ByName("infer_response")).Message()), nil
}

// raw returns the one tensor of an answer; nil where there is not one.
func (c *client) raw(answer protoreflect.Message) []byte {
	contents := answer.Get(c.response.Fields().ByName("raw_output_contents")).List()
	if contents.Len() != 1 {
		return nil
	}
	return contents.Get(0).Bytes()
}

func (c *client) floats(model string, raw []byte) proto.Message {
	return c.asking(model, "x", "FP32", int64(len(raw)/4), raw)
}

func (c *client) rounds(model string, count uint64) proto.Message {
	return c.asking(model, "rounds", "INT64", 1, binary.LittleEndian.AppendUint64(nil, count))
}

func (c *client) asking(model, input, datatype string, length int64, raw []byte) proto.Message {
	fields := c.request.Fields()
	made := dynamicpb.NewMessage(c.request)
	made.Set(fields.ByName("model_name"), protoreflect.ValueOfString(model))
	tensors := made.Mutable(fields.ByName("inputs")).List()
	tensor := tensors.AppendMutable().Message()
	of := tensor.Descriptor().Fields()
	tensor.Set(of.ByName("name"), protoreflect.ValueOfString(input))
	tensor.Set(of.ByName("datatype"), protoreflect.ValueOfString(datatype))
	tensor.Mutable(of.ByName("shape")).List().Append(protoreflect.ValueOfInt64(length))
	contents := made.Mutable(fields.ByName("raw_input_contents")).List()
	contents.Append(protoreflect.ValueOfBytes(raw))
	return made
}

// identical is a compression that no server knows, and that changes nothing.
type identical struct{}

func (identical) Name() string { return unheardOf }

func (identical) Compress(w io.Writer) (io.WriteCloser, error) { return unclosed{w}, nil }

func (identical) Decompress(r io.Reader) (io.Reader, error) { return r, nil }

type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }

func init() { encoding.RegisterCompressor(identical{}) }
