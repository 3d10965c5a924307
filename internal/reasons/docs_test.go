package reasons

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"finwait/tracer"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the table of docs/states.md")

const (
	document = "../../docs/states.md"
	begin    = "<!-- The list of internal/reasons: go test ./internal/reasons -update -->\n"
	end      = "<!-- end -->\n"
)

// table is the list in Markdown.
func table() string {
	var b strings.Builder
	b.WriteString("| reason | detail | what happened, and what it usually means | counters | demonstration |\n|---|---|---|---|---|\n")
	code := func(words ...string) string {
		if words = strings.Fields(strings.Join(words, " ")); len(words) == 0 {
			return ""
		}
		return "`" + strings.Join(words, "` `") + "`"
	}
	for _, e := range All() {
		reason := code(e.Reason.String())
		if e.Detail != tracer.DetailNone {
			reason = ""
		}
		fmt.Fprintf(&b, "| %s | %s | %s %s | %s | %s |\n", reason, code(e.Detail.String()), e.What, e.Means, code(e.Counters...), code(e.Demo))
	}
	return b.String()
}

// The table in the documents is the list.
func TestTable(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	got, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place for the table, between %q and %q", document, begin, end)
	}
	if *update {
		if err := os.WriteFile(document, []byte(before+begin+table()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(got, table()); diff != "" {
		t.Errorf("%s is older than the list: go test ./internal/reasons -update (-document +list)\n%s", document, diff)
	}
}
