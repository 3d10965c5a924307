package library

import (
	"strings"
	"testing"
)

// foreign are what must not come with package tracer: it restricts no process,
// reads no flags, and has no package above it.
var foreign = []string{
	"github.com/landlock-lsm/", "github.com/spf13/",
	"finwait/internal/confine", "finwait/internal/audit", "finwait/internal/scenario", "finwait/internal/sandbox",
	"finwait/internal/load", "finwait/internal/test/", "finwait/cmd/",
}

func wantNoForeign(t *testing.T, what string, deps []byte) {
	t.Helper()
	paths := strings.Fields(string(deps))
	if len(paths) < 50 {
		t.Fatalf("%s depends on %d packages only: %v", what, len(paths), paths)
	}
	for _, path := range paths {
		for _, f := range foreign {
			if strings.HasPrefix(path+"/", strings.TrimSuffix(f, "/")+"/") {
				t.Errorf("%s pulls in %s", what, path)
			}
		}
	}
}

// Who imports the library gets no more than tracing takes.
func TestDependencies(t *testing.T) {
	wantNoForeign(t, tracerPath, goTool(t, ".", "list", "-deps", tracerPath))
}
