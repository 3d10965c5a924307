package e2e

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

const rules = "../../../deploy/prometheus/finwait.rules"

var (
	metricName   = regexp.MustCompile(`\bfinwait_[a-z_]+`)
	documentName = regexp.MustCompile(`\bdocs/[a-z/-]+(README)?\.md`)
)

// The rules are well-formed, each alert fires for the host that it is about and for no other and names
// a document that there is, and they ask for metrics that there are.
func TestRules(t *testing.T) {
	for _, args := range [][]string{{"check", "rules", "--lint=all", "--lint-fatal", rules + ".yaml"}, {"test", "rules", rules + ".test.yaml"}} {
		if out, err := exec.Command(program(t, "promtool"), args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v: %s", args, err, out)
		}
	}
	text, err := os.ReadFile(rules + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	document, err := os.ReadFile("../../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool)
	for _, name := range metricName.FindAllString(string(document), -1) {
		for _, of := range []string{"", "_bucket", "_sum", "_count"} {
			known[name+of] = true
		}
	}
	recorded := regexp.MustCompile(`cluster:\S+`)
	asked := metricName.FindAllString(recorded.ReplaceAllString(string(text), ""), -1)
	if len(asked) < 15 {
		t.Errorf("the rules ask for %q only", asked)
	}
	for _, name := range asked {
		if !known[name] {
			t.Errorf("the rules ask for %s, which docs/metrics.md does not have", name)
		}
	}
	for _, alert := range strings.Split(string(text), "- alert: ")[1:] {
		name, _, _ := strings.Cut(alert, "\n")
		// Each finding has a document of its own: the tests of doctor say so.
		named := documentName.FindAllString(strings.ReplaceAll(alert, "{{ $labels.id }}", "README"), -1)
		if len(named) == 0 || !strings.Contains(alert, "summary: ") || !strings.Contains(alert, "description: ") {
			t.Errorf("%s lacks a summary, a description or a document", name)
		}
		for _, file := range named {
			if _, err := os.Stat("../../../" + file); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
