package families

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"finwait/internal/doctor"
	"finwait/internal/test/markdown"
)

var update = flag.Bool("update", false, "write the tables of docs/metrics.md")

const (
	document = "../../docs/metrics.md"
	begin    = "<!-- The families: go test ./internal/families -update -->\n"
	end      = "<!-- end -->\n"
)

// tables are the families in Markdown.
func tables() string {
	const limit = 50
	o := &Options{By: "BY", Limit: limit, Rules: len(doctor.Rules()), Export: true}
	var b strings.Builder
	for _, part := range []struct {
		title    string
		families []*Family
	}{
		{"The sockets of the host", trafficFamilies()},
		{"How long states last", durationFamilies()},
		{"Groups: with `--by BY`", groupFamilies(o)},
		{"What is refreshed: unless `--refresh 0`", refreshedFamilies()},
		{"finwait itself", selfFamilies()},
	} {
		fmt.Fprintf(&b, "\n## %s\n\n| metric | type | labels | series, at most | in OpenTelemetry | meaning |\n|---|---|---|---|---|---|\n", part.title)
		for _, f := range part.families {
			labels := "`" + strings.Join(f.Labels, "` `") + "`"
			if len(f.Labels) == 0 {
				labels = ""
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %d | `%s` | %s |\n", f.Name, f.Kind, labels, f.Most(o), f.OTelName(), f.Help)
		}
	}
	b.WriteString("\n")
	return b.String()
}

// The tables in the documents are the families.
func TestDocument(t *testing.T) { markdown.Between(t, document, begin, end, tables(), *update) }
