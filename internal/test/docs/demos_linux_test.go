package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"finwait/internal/scenario"
)

// Each demonstration is in the document about states.
func TestDemonstrations(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "docs/states.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, sc := range scenario.All() {
		if !regexp.MustCompile("`(finwait demo )?" + sc.Name + "`").Match(b) {
			t.Errorf("docs/states.md does not name %s", sc.Name)
		}
	}
}
