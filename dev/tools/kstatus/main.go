// Command kstatus judges Kubernetes objects with the kstatus library, as kubectl plugins, Flux and
// Argo-like tools do. It reads JSON objects from stdin, one or a stream of them (a List counts as
// its items), and prints one JSON line for each.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func main() {
	if err := judgeAll(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(1)
	}
}

func judgeAll(in io.Reader, out io.Writer) error {
	decoder, encoder := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var raw json.RawMessage
		if err := decoder.Decode(&raw); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read an object: %w", err)
		}
		// This decoder keeps whole numbers whole; kstatus refuses a generation of 1.0.
		var content map[string]any
		if err := utiljson.Unmarshal(raw, &content); err != nil {
			return fmt.Errorf("read an object: %w", err)
		}
		for _, object := range flatten(content) {
			result, err := status.Compute(object)
			if err != nil {
				return fmt.Errorf("judge %s %s: %w", object.GetKind(), object.GetName(), err)
			}
			if err := encoder.Encode(verdict{result.Status.String(), result.Message}); err != nil {
				return fmt.Errorf("write a verdict: %w", err)
			}
		}
	}
}

func flatten(content map[string]any) []*unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: content}
	if !object.IsList() {
		return []*unstructured.Unstructured{object}
	}
	var objects []*unstructured.Unstructured
	items, _, _ := unstructured.NestedSlice(content, "items")
	for _, item := range items {
		if fields, ok := item.(map[string]any); ok {
			objects = append(objects, &unstructured.Unstructured{Object: fields})
		}
	}
	return objects
}
