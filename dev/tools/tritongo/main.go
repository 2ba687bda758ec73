// Command tritongo exercises a server of the Open Inference Protocol over gRPC with grpc-go, the
// client that most others are built on. The messages are made from what the server's reflection
// says. Each mode prints one JSON line with what it counted, and ends with 1 and a sentence where
// anything is not as it should be.
//
//	tritongo -address HOST:PORT MODE
//
// The modes unary, large, stream, gzip, errors and health want a model with an input x FP32 [n] and
// an output y that is the same; deadline and cancel want one with an input rounds INT64 [1] that
// takes as long as it says.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	// What a mode may take as a whole; every wait ends by then.
	limit = 120 * time.Second
	// As long as this nothing happens where a peer is taken to stand still.
	stillness = 300 * time.Millisecond
	forever   = 100_000_000
)

var (
	address    = flag.String("address", "", "host:port of the server")
	model      = flag.String("model", "m", "name of the model")
	goroutines = flag.Int("goroutines", 16, "callers at once, over one connection")
	calls      = flag.Int("calls", 50, "calls, streams' messages or cancelled calls of each caller")
	size       = flag.Int("bytes", 8<<20, "bytes of a large tensor")
)

type counts map[string]any

var modes = map[string]func(context.Context, *client) (counts, error){
	"unary":    unary,
	"large":    large,
	"stream":   stream,
	"gzip":     compressed,
	"errors":   refusals,
	"health":   health,
	"deadline": deadline,
	"cancel":   cancellation,
}

func main() {
	flag.Parse()
	mode, known := modes[flag.Arg(0)]
	if !known || *address == "" {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(mode); err != nil {
		fmt.Fprintf(os.Stderr, "tritongo %s: %v\n", flag.Arg(0), err)
		os.Exit(1)
	}
}

func run(mode func(context.Context, *client) (counts, error)) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	client, err := connect(ctx, *address)
	if err != nil {
		return err
	}
	defer client.Close()
	told, err := mode(ctx, client)
	if err != nil {
		return err
	}
	// A connection that the server ends is dialed anew without a word.
	if dialed := client.dialed.Load(); dialed != 1 {
		return fmt.Errorf("it took %d connections, not 1", dialed)
	}
	return json.NewEncoder(os.Stdout).Encode(told)
}

// together calls work for each caller at once and returns what went wrong.
func together(callers int, work func(caller int) error) error {
	failures := make([]error, callers)
	var group sync.WaitGroup
	for caller := range callers {
		group.Go(func() { failures[caller] = work(caller) })
	}
	group.Wait()
	return errors.Join(failures...)
}

// numbers returns FP32 elements, none like another caller's or call's.
func numbers(count, caller, call int) []byte {
	raw := make([]byte, 4*count)
	for i := range count {
		value := float32(caller*1_000_000 + call*1000 + i%1000)
		binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(value))
	}
	return raw
}

// echo asks for one tensor back and compares it.
func echo(ctx context.Context, c *client, raw []byte, options ...grpc.CallOption) error {
	answer, err := c.infer(ctx, c.floats(*model, raw), options...)
	if err != nil {
		return err
	}
	return same(c.raw(answer), raw)
}

func same(answer, asked []byte) error {
	if bytes.Equal(answer, asked) {
		return nil
	}
	return fmt.Errorf("an answer of %d bytes is not the %d bytes asked for", len(answer), len(asked))
}

func unary(ctx context.Context, c *client) (counts, error) {
	var answered atomic.Int64
	err := together(*goroutines, func(caller int) error {
		for call := range *calls {
			var trailer metadata.MD
			if err := echo(ctx, c, numbers(1+call, caller, call), grpc.Trailer(&trailer)); err != nil {
				return fmt.Errorf("caller %d, call %d: %w", caller, call, err)
			}
			if len(trailer.Get("slipway-model-digest")) != 1 {
				return fmt.Errorf("caller %d, call %d: trailers %v", caller, call, trailer)
			}
			answered.Add(1)
		}
		return nil
	})
	return counts{"calls": answered.Load()}, err
}

func large(ctx context.Context, c *client) (counts, error) {
	// Two at once share the connection's windows; the second connection's windows never grow.
	still, err := connect(ctx, *address, grpc.WithStaticStreamWindowSize(65535),
		grpc.WithStaticConnWindowSize(65535))
	if err != nil {
		return nil, err
	}
	defer still.Close()
	var moved atomic.Int64
	err = together(2, func(caller int) error {
		for call, connection := range []*client{c, still} {
			raw := numbers(*size/4, caller, call)
			if err := echo(ctx, connection, raw); err != nil {
				return fmt.Errorf("caller %d, call %d: %w", caller, call, err)
			}
			moved.Add(2 * int64(len(raw)))
		}
		return nil
	})
	return counts{"bytes": moved.Load()}, err
}

func compressed(ctx context.Context, c *client) (counts, error) {
	// Elements that compress well, and so grow a lot at the other side.
	alike := make([]byte, *size)
	for _, raw := range [][]byte{numbers(1000, 0, 0), alike, {}} {
		if err := echo(ctx, c, raw, grpc.UseCompressor(gzip.Name)); err != nil {
			return nil, err
		}
	}
	return counts{"calls": 3}, nil
}

// stream sends requests until the server takes no more, and only then reads its answers.
func stream(ctx context.Context, c *client) (counts, error) {
	const elements = 16 * 1024
	opened, err := c.stream(ctx)
	if err != nil {
		return nil, err
	}
	messages := *goroutines * *calls
	var sent atomic.Int64
	sending := make(chan error, 1)
	go func() {
		for call := range messages {
			if err := opened.SendMsg(c.floats(*model, numbers(elements, 0, call))); err != nil {
				sending <- fmt.Errorf("message %d: %w", call, err)
				return
			}
			sent.Add(1)
		}
		sending <- opened.CloseSend()
	}()
	ahead := standstill(&sent)
	if ahead == int64(messages) {
		return nil, fmt.Errorf("the server took all %d messages before an answer was read", ahead)
	}
	for call := range messages {
		answer, err := c.streamed(opened)
		if err != nil {
			return nil, fmt.Errorf("answer %d: %w", call, err)
		}
		if err := same(answer, numbers(elements, 0, call)); err != nil {
			return nil, fmt.Errorf("answer %d: %w", call, err)
		}
	}
	if err := <-sending; err != nil {
		return nil, err
	}
	if err := ended(opened); err != nil {
		return nil, err
	}
	return counts{"messages": messages, "ahead": ahead}, nil
}

// standstill waits until a count no longer grows and returns it.
func standstill(count *atomic.Int64) int64 {
	for before := int64(-1); ; {
		now := count.Load()
		if now == before && now > 0 {
			return now
		}
		before = now
		time.Sleep(stillness)
	}
}

// expect says what is wrong where an error has not got the code, or its text not the part.
func expect(err error, code codes.Code, part string) error {
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), part) {
		return fmt.Errorf("%v with %q was expected, not: %w", code, part, err)
	}
	return nil
}

func refusals(ctx context.Context, c *client) (counts, error) {
	raw := numbers(4, 0, 0)
	// A status message is UTF-8, and percent-encoded on its way.
	const nobody = "nobody % é 模型"
	_, err := c.infer(ctx, c.floats(nobody, raw))
	if err := expect(err, codes.NotFound, nobody); err != nil {
		return nil, err
	}
	for _, method := range []string{
		"/inference.GRPCInferenceService/NoSuchMethod", "/no.such.Service/Method", "/x",
	} {
		err := c.Invoke(ctx, method, c.floats(*model, raw), c.floats(*model, raw))
		if err := expect(err, codes.Unimplemented, ""); err != nil {
			return nil, fmt.Errorf("%s: %w", method, err)
		}
	}
	// Larger than what the test lets the server take.
	_, err = c.infer(ctx, c.floats(*model, make([]byte, 4**size)))
	if err := expect(err, codes.ResourceExhausted, ""); err != nil {
		return nil, err
	}
	_, err = c.infer(ctx, c.floats(*model, raw), grpc.UseCompressor(unheardOf))
	if err := expect(err, codes.Unimplemented, ""); err != nil {
		return nil, err
	}
	return counts{"refused": 6}, echo(ctx, c, raw)
}

func health(ctx context.Context, c *client) (counts, error) {
	asking := healthpb.NewHealthClient(c)
	names := []string{"", *model, "inference.GRPCInferenceService"}
	for _, name := range names {
		answer, err := asking.Check(ctx, &healthpb.HealthCheckRequest{Service: name})
		if err != nil {
			return nil, fmt.Errorf("check %q: %w", name, err)
		}
		if answer.Status != healthpb.HealthCheckResponse_SERVING {
			return nil, fmt.Errorf("check %q: %v", name, answer.Status)
		}
	}
	_, err := asking.Check(ctx, &healthpb.HealthCheckRequest{Service: "nobody"})
	if err := expect(err, codes.NotFound, ""); err != nil {
		return nil, err
	}
	for name, expected := range map[string]healthpb.HealthCheckResponse_ServingStatus{
		*model:   healthpb.HealthCheckResponse_SERVING,
		"nobody": healthpb.HealthCheckResponse_SERVICE_UNKNOWN,
	} {
		watching, cancel := context.WithCancel(ctx)
		defer cancel()
		watch, err := asking.Watch(watching, &healthpb.HealthCheckRequest{Service: name})
		if err != nil {
			return nil, err
		}
		first, err := watch.Recv()
		if err != nil {
			return nil, fmt.Errorf("watch %q: %w", name, err)
		}
		if first.Status != expected {
			return nil, fmt.Errorf("watch %q: %v", name, first.Status)
		}
		cancel()
		if _, err := watch.Recv(); status.Code(err) != codes.Canceled {
			return nil, fmt.Errorf("a watch that was cancelled: %w", err)
		}
	}
	return counts{"checks": len(names) + 1, "watches": 2}, nil
}

func deadline(ctx context.Context, c *client) (counts, error) {
	var late atomic.Int64
	err := together(*goroutines, func(caller int) error {
		patience := time.Duration(100+20*caller) * time.Millisecond
		short, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		began := time.Now()
		_, err := c.infer(short, c.rounds(*model, forever))
		if took := time.Since(began); took > patience+5*time.Second {
			return fmt.Errorf("a deadline of %v came after %v", patience, took)
		}
		late.Add(1)
		return expect(err, codes.DeadlineExceeded, "")
	})
	if err != nil {
		return nil, err
	}
	// The server has dropped what was late, or this would wait behind it.
	if _, err := c.infer(ctx, c.rounds(*model, 1)); err != nil {
		return nil, err
	}
	return counts{"late": late.Load()}, nil
}

func cancellation(ctx context.Context, c *client) (counts, error) {
	const rounds = 5
	for range rounds {
		round, cancel := context.WithCancel(ctx)
		time.AfterFunc(stillness, cancel)
		err := together(*calls, func(int) error {
			_, err := c.infer(round, c.rounds(*model, forever))
			return expect(err, codes.Canceled, "")
		})
		if err != nil {
			return nil, err
		}
		if _, err := c.infer(ctx, c.rounds(*model, 1)); err != nil {
			return nil, fmt.Errorf("after cancellations: %w", err)
		}
	}
	return counts{"cancelled": rounds * *calls, "answered": rounds}, nil
}
