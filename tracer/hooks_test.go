package tracer

import (
	"slices"
	"testing"
)

// Every program of the object belongs to one set of hooks, follows full sockets, is the
// one of the iterators, is called by another program, or is run by user space: load() leaves the programs
// of the other sets out, and start() attaches those of its own.
func TestEveryProgramHasItsSet(t *testing.T) {
	uses := map[string]int{
		bpfProgExisting: 1, bpfProgQueueLeft: 1, bpfProgSweepMinisocks: 1, bpfProgSweepSockets: 1, bpfProgSettlePorts: 1,
		bpfProgHoldings: 1, bpfProgLiveSockets: 1,
	}
	for _, name := range walkPrograms {
		uses[name]++
	}
	for _, p := range slices.Concat(setState, detailPrograms, handlerPrograms, segmentPrograms) {
		uses[p.name]++
	}
	for _, set := range hookSets {
		for _, p := range set.programs {
			uses[p.name]++
		}
	}
	spec, err := loadBpf()
	if err != nil {
		t.Fatal(err)
	}
	for name := range spec.Programs {
		if uses[name] != 1 {
			t.Errorf("%s is in %d lists, want one", name, uses[name])
		}
		delete(uses, name)
	}
	for name := range uses {
		t.Errorf("there is no program %s", name)
	}
}
