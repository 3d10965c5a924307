package library

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What a program links that imports package tracer: no command line, no Landlock, no
// netlink.
func TestImportIsLean(t *testing.T) {
	deps := strings.Fields(string(goTool(t, "../../..", "list", "-deps", tracerPath)))
	if !slices.Contains(deps, "github.com/cilium/ebpf") {
		t.Fatalf("package tracer does not import cilium/ebpf: %v", deps)
	}
	for _, dep := range deps {
		for _, not := range []string{"github.com/landlock-lsm/", "github.com/spf13/", "github.com/mdlayher/", internalPath + "confine"} {
			if strings.HasPrefix(dep, not) {
				t.Errorf("package tracer links %s", dep)
			}
		}
	}
}

const program = `package main

import (
	"context"
	"fmt"
	"os"

	"finwait/tracer"
)

func main() {
	t, err := tracer.New(tracer.Config{Filter: tracer.Filter{Ports: []uint16{443}}})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	defer t.Close()
	err = t.Run(context.Background(), func(tr *tracer.Transition) error {
		_, err := fmt.Println(tr.Local, tr.Remote, tr.From, tr.To, tr.Duration, tr.Reason)
		return err
	})
	fmt.Println(err)
}
`

// Another module imports it as the README says: with replace, until the module has a
// public home.
func TestImportFromAnotherModule(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"main.go": program, "go.sum": string(sums),
		"go.mod": "module example.com/user\n\n" + goLine(t, root) + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	goTool(t, dir, "mod", "edit", "-require=finwait@v0.0.0", "-replace=finwait="+root)
	goTool(t, dir, "mod", "tidy")
	goTool(t, dir, "vet", "./...")
	goTool(t, dir, "build", "-o", filepath.Join(dir, "user"), ".")
	if info, err := os.Stat(filepath.Join(dir, "user")); err != nil || info.Size() == 0 {
		t.Errorf("%v, %v", info, err)
	}
}

// goLine is the go directive of a module.
func goLine(t *testing.T, root string) string {
	b, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "go ") {
			return strings.TrimSpace(line)
		}
	}
	t.Fatal("go.mod has no go directive")
	return ""
}
