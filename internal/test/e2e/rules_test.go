package e2e

import (
	"os"
	"os/exec"
	"regexp"
	"testing"
)

const rules = "../../../deploy/prometheus/finwait.rules"

var metricName = regexp.MustCompile(`\bfinwait_[a-z_]+`)

// The rules are well-formed, each alert fires for the host that it is about and for no other, and they
// ask for metrics that there are.
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
}
