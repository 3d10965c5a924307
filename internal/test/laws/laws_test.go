package laws

import (
	"errors"
	"fmt"
	"go/build"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A floor is a set of packages with the same law. Floors are ordered from the ground up.
type floor struct {
	name     string
	packages []string // paths in the module; a package below one of them is on its floor too
	imports  []string // floors whose packages these may import
}

// The floors of the house. Every package of the module is on one of them.
var floors = []floor{
	{"ground floor", internal("histogram ktime kallsyms userstack netns netstat holders sockdiag cgroup sysctl privilege confine"),
		[]string{"ground floor"}},
	{"tracer", []string{"tracer"},
		[]string{"ground floor", "tracer"}},
	{"middle floor", internal("source sink meter sockets conns label text jsonl audit families scenario sandbox load demo reasons"),
		[]string{"ground floor", "tracer", "middle floor"}},
	{"top floor", internal("tui web page metrics otlp doctor recording report kube"),
		[]string{"ground floor", "tracer", "middle floor"}},
	{"command", []string{"cmd"},
		[]string{"ground floor", "tracer", "middle floor", "top floor"}},
	{"tests", internal("test"),
		[]string{"ground floor", "tracer", "middle floor", "top floor", "tests"}},
	{"generator", []string{"."}, nil},
}

func internal(names string) (paths []string) {
	for name := range strings.FieldsSeq(names) {
		paths = append(paths, "internal/"+name)
	}
	return paths
}

// Foreign packages, by a prefix of their path, that only some packages may import.
var foreign = []struct {
	prefix string
	only   []string
}{
	{"github.com/charmbracelet/", internal("tui")},
	{"charm.land/", internal("tui")},
	{"github.com/prometheus/client", internal("metrics")}, // client_golang, client_model
	{"github.com/prometheus/exporter-toolkit/", internal("web")},
	{"github.com/prometheus/", internal("metrics web")},
	{"github.com/coreos/", internal("web")},
	{"go.yaml.in/", internal("web")},
	{"go.opentelemetry.io/", internal("otlp")},
	{"github.com/go-logr/", internal("otlp")},
	{"k8s.io/", internal("kube")},
	{"sigs.k8s.io/", internal("kube")},
	{"github.com/containerd/", internal("kube")},
	{"github.com/docker/", internal("kube")},
	{"github.com/moby/", internal("kube")},
	{"github.com/spf13/", []string{"cmd/finwait"}}, // cobra, pflag
	{"github.com/landlock-lsm/", internal("confine")},
	{"github.com/mdlayher/netlink", internal("sockdiag")},
	{"github.com/go-delve/", internal("userstack")},
	{"golang.org/x/text/", internal("text")},
	// jsonl, meter and demo write JSON with it; the others log.
	{"github.com/rs/zerolog", append(internal("jsonl meter demo sockets conns doctor page"), "cmd/finwait", "tracer")},
}

// systems are those whose imports are looked at.
var systems = []string{"linux", "darwin"}

// A pkg is a package of the module with the imports of its files that are no tests.
type pkg struct {
	path    string   // in the module; "." is its root
	imports []string // those of the module begin with "./"
}

func TestLaws(t *testing.T) {
	for _, system := range systems {
		pkgs, err := packages("../../..", system)
		if err != nil {
			t.Fatal(err)
		}
		if len(pkgs) < 10 {
			t.Errorf("%s: only %d packages were found", system, len(pkgs))
		}
		for _, broken := range check(pkgs) {
			t.Errorf("%s: %s", system, broken)
		}
	}
}

// packages reads the packages below root in this process and not with go list, so that
// go test knows which files its cached result depends on.
func packages(root, system string) (pkgs []pkg, err error) {
	module, err := modulePath(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil, err
	}
	ctx := build.Default
	ctx.GOOS = system
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		name := d.Name()
		if path != root && (name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
			return filepath.SkipDir
		}
		if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && path != root {
			return filepath.SkipDir // a module of its own: it is in no program of this one
		}
		found, err := ctx.ImportDir(path, 0)
		var none *build.NoGoError
		if errors.As(err, &none) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		p := pkg{path: filepath.ToSlash(rel)}
		for _, imported := range found.Imports {
			if below, ok := strings.CutPrefix(imported, module+"/"); ok {
				imported = "./" + below
			}
			p.imports = append(p.imports, imported)
		}
		pkgs = append(pkgs, p)
		return nil
	})
	return pkgs, err
}

func modulePath(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "module "); ok {
			return strings.TrimSpace(path), nil
		}
	}
	return "", fmt.Errorf("%s names no module", file)
}

// check lists the laws that are broken.
func check(pkgs []pkg) (broken []string) {
	add := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	for _, p := range pkgs {
		own := floorOf(p.path)
		if own == nil {
			add("%s is on no floor: add it to the table of floors", p.path)
			continue
		}
		for _, imported := range p.imports {
			if path, ok := strings.CutPrefix(imported, "./"); ok {
				// A package without a floor is reported where it is itself in pkgs.
				if other := floorOf(path); other != nil && !slices.Contains(own.imports, other.name) {
					add("%s imports %s: the %s may import only %s", p.path, path, own.name, strings.Join(own.imports, ", "))
				}
				continue
			}
			for _, f := range foreign {
				if strings.HasPrefix(imported, f.prefix) && !slices.Contains(f.only, p.path) {
					add("%s imports %s: only %s may import %s", p.path, imported, strings.Join(f.only, ", "), f.prefix)
				}
			}
		}
	}
	return broken
}

// floorOf returns nil for a package that is on no floor.
func floorOf(path string) *floor {
	for i, f := range floors {
		for _, p := range f.packages {
			if path == p || strings.HasPrefix(path, p+"/") {
				return &floors[i]
			}
		}
	}
	return nil
}

// Every law can be broken.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		path, imports, want string
	}{
		{"cmd/finwait", "./tracer", ""},
		{"internal/tui", "./internal/meter", ""},
		{"internal/tui", "github.com/charmbracelet/bubbletea", ""},
		{"internal/test/live", "./internal/tui", ""},
		{"internal/ktime", "./tracer", "the ground floor may import only ground floor"},
		{"tracer", "./internal/audit", "the tracer may import only"},
		{"internal/audit", "./internal/web", "the middle floor may import only"},
		{"internal/web", "./internal/report", "the top floor may import only"},
		{"internal/web", "./cmd/finwait", "the top floor may import only"},
		{"internal/test/soak", "./cmd/finwait", "the tests may import only"},
		{"cmd/finwait", "./internal/test/bpfobj", "the command may import only"},
		{"internal/new", "fmt", "internal/new is on no floor"},
		{"internal/web", "github.com/prometheus/client_golang/prometheus", "only internal/metrics may import"},
		{"internal/metrics", "github.com/prometheus/exporter-toolkit/web", "only internal/web may import"},
		{"internal/netstat", "github.com/rs/zerolog", "may import"},
		{"internal/test/soak", "github.com/spf13/cobra", "only cmd/finwait may import"},
	} {
		broken := strings.Join(check([]pkg{{c.path, []string{c.imports}}}), "\n")
		if c.want == "" && broken != "" || !strings.Contains(broken, c.want) {
			t.Errorf("%s imports %s: %q, want %q", c.path, c.imports, broken, c.want)
		}
	}
}
