package reasons

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"finwait/internal/test/markdown"
	"finwait/tracer"
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
func TestTable(t *testing.T) { markdown.Between(t, document, begin, end, table(), *update) }
