// Package library tests package tracer as those see it who import it: what it
// exports, and what comes with it.
package library

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	// The tests read it with the go command: this makes a cached result know of it.
	_ "finwait/tracer"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write down what package tracer exports")

const (
	tracerPath   = "finwait/tracer"
	internalPath = "finwait/internal/"
	golden       = "testdata/api.txt"
)

// goTool runs the go command, for linux/amd64 wherever it runs.
func goTool(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0", "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// loadTracer gives the types of package tracer, from what the compiler exports.
func loadTracer(t *testing.T) *types.Package {
	t.Helper()
	exports := make(map[string]string)
	for line := range strings.Lines(string(goTool(t, ".", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", tracerPath))) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		exports[path] = file
	}
	pkg, err := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	}).Import(tracerPath)
	if err != nil {
		t.Fatal(err)
	}
	return pkg
}

// exported calls declared with every exported object of the package: its own, then
// the exported fields and methods of its types.
func exported(pkg *types.Package, declared func(obj types.Object, owner string)) {
	scope := pkg.Scope()
	for _, name := range scope.Names() {
		obj := scope.Lookup(name)
		if !obj.Exported() {
			continue
		}
		declared(obj, "")
		named, ok := obj.Type().(*types.Named)
		if _, isType := obj.(*types.TypeName); !isType || !ok {
			continue
		}
		if st, ok := named.Underlying().(*types.Struct); ok {
			for f := range st.Fields() {
				if f.Exported() {
					declared(f, name)
				}
			}
		}
		for m := range named.Methods() {
			if m.Exported() {
				declared(m, name)
			}
		}
	}
}

// A change of what package tracer exports is seen, and meant.
func TestSurface(t *testing.T) {
	pkg := loadTracer(t)
	var lines []string
	exported(pkg, func(obj types.Object, owner string) {
		lines = append(lines, describe(pkg, obj, owner))
	})
	slices.Sort(lines)
	got := strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("package tracer exports something else than %s says (-then +now); if that is meant: go test ./internal/test/library -update\n%s", golden, diff)
	}
}

// describe gives the declaration of an object on one line.
func describe(pkg *types.Package, obj types.Object, owner string) string {
	relative := types.RelativeTo(pkg)
	switch obj := obj.(type) {
	case *types.Const:
		return fmt.Sprintf("const %s %s = %s", obj.Name(), types.TypeString(obj.Type(), relative), obj.Val())
	case *types.TypeName:
		under := obj.Type().Underlying()
		if st, ok := under.(*types.Struct); ok { // its exported fields have lines of their own
			hidden := ""
			for f := range st.Fields() {
				if !f.Exported() {
					hidden = ", with unexported fields"
				}
			}
			return fmt.Sprintf("type %s struct%s", obj.Name(), hidden)
		}
		return fmt.Sprintf("type %s %s", obj.Name(), types.TypeString(under, relative))
	case *types.Var:
		if owner == "" {
			return fmt.Sprintf("var %s %s", obj.Name(), types.TypeString(obj.Type(), relative))
		}
		embedded := ""
		if obj.Embedded() {
			embedded = ", embedded"
		}
		return fmt.Sprintf("field %s.%s %s%s", owner, obj.Name(), types.TypeString(obj.Type(), relative), embedded)
	case *types.Func:
		var b bytes.Buffer
		types.WriteSignature(&b, obj.Signature(), relative)
		if recv := obj.Signature().Recv(); recv != nil {
			return fmt.Sprintf("method (%s) %s%s", types.TypeString(recv.Type(), relative), obj.Name(), &b)
		}
		return fmt.Sprintf("func %s%s", obj.Name(), &b)
	}
	return obj.String()
}

// A user can name every type that is exported: none is of a package that cannot be imported.
func TestSurfaceIsPublic(t *testing.T) {
	pkg := loadTracer(t)
	n := 0
	exported(pkg, func(obj types.Object, owner string) {
		n++
		types.TypeString(surfaceType(obj), func(of *types.Package) string {
			if strings.HasPrefix(of.Path()+"/", internalPath) {
				t.Errorf("%s %s is of a type of %s", owner, obj.Name(), of.Path())
			}
			return of.Name()
		})
		for _, name := range unexportedNames(pkg, surfaceType(obj)) {
			t.Errorf("%s %s is of the unexported type %s", owner, obj.Name(), name)
		}
	})
	if n < 100 {
		t.Errorf("only %d exported declarations were looked at", n)
	}
}

// surfaceType is what a user needs the name of; the fields of a struct are looked at one by one.
func surfaceType(obj types.Object) types.Type {
	if _, ok := obj.(*types.TypeName); ok {
		if _, ok := obj.Type().Underlying().(*types.Struct); ok {
			return types.NewStruct(nil, nil)
		}
		return obj.Type().Underlying()
	}
	return obj.Type()
}

// unexportedNames are the types of the package in a type that have no exported name.
func unexportedNames(pkg *types.Package, typ types.Type) (names []string) {
	for word := range strings.FieldsFuncSeq(types.TypeString(typ, (*types.Package).Path), func(r rune) bool {
		return strings.ContainsRune("[]*(){},; ", r)
	}) {
		if name, ok := strings.CutPrefix(word, pkg.Path()+"."); ok && !ast.IsExported(name) {
			names = append(names, name)
		}
	}
	return names
}
