package library

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A small program of another module that makes use of the library.
const program = `package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"finwait/tracer"
)

func main() {
	tr, err := tracer.New(tracer.Config{Filter: tracer.Filter{Ports: []tracer.PortRange{tracer.Port(443)}, To: []tracer.State{tracer.TimeWait}}})
	var missing *tracer.PermissionError
	if errors.As(err, &missing) {
		fmt.Fprintln(os.Stderr, missing.Missing)
	}
	if err != nil {
		os.Exit(1)
	}
	defer tr.Close()
	var totals tracer.Totals
	err = tr.Run(context.Background(), func(t *tracer.Transition) error {
		totals.Add(t)
		return json.NewEncoder(os.Stdout).Encode(t)
	})
	for b := range totals.Durations[tracer.TimeWait].Buckets() {
		fmt.Println(b.Low, b.High, b.Count, err)
	}
}
`

// Another module can import package tracer, and gets no more than it needs.
func TestImport(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"go.mod":  fmt.Sprintf("module example.com/user\n\ngo 1.26.0\n\nrequire finwait v0.0.0\n\nreplace finwait => %s\n", root),
		"go.sum":  string(sums),
		"main.go": program,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// What it requires besides is written into its go.mod, from the versions that are here.
	t.Setenv("GOFLAGS", "-mod=mod")
	goTool(t, dir, "build", "-o", os.DevNull, ".")
	goTool(t, dir, "vet", ".")
	wantNoForeign(t, "a program of another module", goTool(t, dir, "list", "-deps", "."))
}
