package doctor

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// docs/findings has the page of each finding, as --explain shows it, an index, and no other page.
func TestPages(t *testing.T) {
	const dir = "../../docs/findings"
	want := make(map[string][]byte)
	for _, rule := range Rules() {
		var b bytes.Buffer
		if err := Explain(bufio.NewWriter(&b), english, rule); err != nil {
			t.Fatal(err)
		}
		want[rule.ID+".md"] = b.Bytes()
	}
	var index bytes.Buffer
	if err := Index(bufio.NewWriter(&index), english); err != nil {
		t.Fatal(err)
	}
	want["README.md"] = index.Bytes()
	if *update {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, page := range want {
			if err := os.WriteFile(filepath.Join(dir, name), page, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		got, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if page, ok := want[f.Name()]; !ok {
			t.Errorf("%s is the page of no finding", f.Name())
		} else if d := cmp.Diff(string(page), string(got)); d != "" {
			t.Errorf("%s; go test ./internal/doctor -update writes it anew: %s", f.Name(), d)
		}
		delete(want, f.Name())
	}
	for name := range want {
		t.Errorf("there is no page %s", name)
	}
}
