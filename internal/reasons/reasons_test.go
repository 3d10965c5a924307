package reasons

import (
	"strings"
	"testing"

	"finwait/tracer"
)

// Every word has its entry, below its reason, and there is no other.
func TestEveryWordIsExplained(t *testing.T) {
	seen := make(map[string]int)
	of := tracer.ReasonNone
	for _, e := range All() {
		seen[e.Word()]++
		switch {
		case e.What == "" || e.Means == "":
			t.Errorf("%s: a sentence is missing", e.Word())
		case e.Detail == tracer.DetailNone:
			of = e.Reason
		case e.Detail.Reason() != e.Reason || e.Reason != of:
			t.Errorf("%s is explained as a detail of %v, below %v", e.Word(), e.Reason, of)
		}
		for _, text := range []string{e.What, e.Means} {
			if !strings.HasSuffix(text, ".") || strings.ContainsAny(text, "|\n") {
				t.Errorf("%s: %q is no sentence, or breaks a table", e.Word(), text)
			}
		}
	}
	words := 0
	for _, r := range tracer.Reasons()[1:] {
		words++
		if seen[r.String()] != 1 {
			t.Errorf("reason %v has %d entries", r, seen[r.String()])
		}
	}
	for _, d := range tracer.Details()[1:] {
		words++
		if seen[d.String()] != 1 {
			t.Errorf("detail %v has %d entries", d, seen[d.String()])
		}
	}
	if words != len(seen) {
		t.Errorf("%d words, %d are explained", words, len(seen))
	}
}

func TestAbout(t *testing.T) {
	for word, want := range map[string]int{"": 0, "frobnicate": 0, "killed": 1, "unread_data": 1, "reset": 3} {
		got := About(word)
		if len(got) != want || want > 0 && got[0].Word() != word {
			t.Errorf("%q has %d entries, want %d: %v", word, len(got), want, got)
		}
	}
}
