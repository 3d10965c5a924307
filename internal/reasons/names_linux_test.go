package reasons

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"finwait/internal/netstat"
	"finwait/internal/scenario"
)

// nstat's name of a counter, in a sentence.
var counter = regexp.MustCompile(`\b(Tcp|Icmp|Ip)[A-Z]\w+`)

// The kernel has each counter that is named, and demo each demonstration.
func TestNames(t *testing.T) {
	known, err := netstat.Read()
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for name := range known {
		names[strings.Replace(name, ".", "", 1)] = true
	}
	demos := scenario.All()
	for _, e := range All() {
		for _, name := range append(counter.FindAllString(e.What+" "+e.Means, -1), e.Counters...) {
			if !names[name] {
				t.Errorf("%s: the kernel has no counter %s", e.Word(), name)
			}
		}
		if e.Demo != "" && !slices.ContainsFunc(demos, func(sc scenario.Scenario) bool { return sc.Name == e.Demo }) {
			t.Errorf("%s: there is no demonstration %q", e.Word(), e.Demo)
		}
	}
}
