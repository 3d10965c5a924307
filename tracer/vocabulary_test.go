package tracer

import (
	"fmt"
	"testing"
)

// Each value that the programs can give has a word of its own.
func TestVocabularies(t *testing.T) {
	for name, v := range map[string]struct {
		count int
		word  func(int) fmt.Stringer
	}{
		"hook":      {int(bpfHookHOOK_COUNT), func(i int) fmt.Stringer { return Hook(i) }},
		"precision": {int(bpfPrecisionPRECISION_COUNT), func(i int) fmt.Stringer { return Precision(i) }},
		"role":      {int(bpfRoleROLE_COUNT), func(i int) fmt.Stringer { return Role(i) }},
		"reason":    {int(bpfReasonREASON_COUNT), func(i int) fmt.Stringer { return Reason(i) }},
		"split":     {int(bpfSplitSPLIT_COUNT), func(i int) fmt.Stringer { return Split(i) }},
	} {
		const none = "unknown" // what a value without a word is called
		value := make(map[string]int)
		for i := range v.count {
			word := v.word(i).String()
			if other, ok := value[word]; ok || word == none && i > 0 {
				t.Errorf("%s %d is called %q, like %d", name, i, word, other)
			}
			value[word] = i
		}
		if word := v.word(v.count).String(); word != none {
			t.Errorf("%s has %d values, and a word for one more: %q", name, v.count, word)
		}
	}
}
