package tracer

import (
	"reflect"
	"testing"
)

// counted calls fn with each field of a struct that the programs count in, and a
// value of it with 1 in that field only.
func counted[T any](fn func(name string, only T)) {
	typ := reflect.TypeFor[T]()
	for i := range typ.NumField() {
		if typ.Field(i).Name == "_" {
			continue
		}
		var only T
		switch f := reflect.ValueOf(&only).Elem().Field(i); {
		case f.CanUint():
			f.SetUint(1)
		case f.CanInt():
			f.SetInt(1)
		}
		fn(typ.Field(i).Name, only)
	}
}

// Whatever the programs count in an account shows in Stats, on every CPU, and every
// cause of a loss comes from one of these counts.
func TestEveryAccountIsRead(t *testing.T) {
	// Skipped runs, so that what has made up for them shows, too.
	const skipped, births = 10, 10
	before := account([]bpfAccount{{}, {}}, skipped, births, 0)
	caused := make(map[Loss]bool)
	counted(func(name string, only bpfAccount) {
		if name == "Missed" { // the larger of it and of all skipped runs counts
			only.Missed = skipped + births + 1
		}
		first, second := account([]bpfAccount{only, {}}, skipped, births, 0), account([]bpfAccount{{}, only}, skipped, births, 0)
		if first == before || first != second {
			t.Errorf("%s on one CPU: %+v, on another %+v, without it %+v", name, first, second, before)
		}
		for cause, n := range account([]bpfAccount{only}, 0, 0, 0).Lost.All() {
			caused[cause] = caused[cause] || n > 0
		}
	})
	for _, cause := range Losses() {
		if !caused[cause] {
			t.Errorf("no account is counted as lost to %v", cause)
		}
	}
}

// The same of what the audit compares.
func TestEveryNetNSCounterIsRead(t *testing.T) {
	made := make(map[string]bool)
	counted(func(name string, only bpfNetnsTotals) {
		var n NetNSTotals
		n.add(&only)
		if n == (NetNSTotals{}) {
			t.Errorf("%s is not added up", name)
		}
		v := reflect.ValueOf(n)
		for i := range v.NumField() {
			made[v.Type().Field(i).Name] = made[v.Type().Field(i).Name] || v.Field(i).Int() != 0
		}
	})
	for name, ok := range made {
		if !ok {
			t.Errorf("nothing is counted as %s", name)
		}
	}
}

// resolve writes every field of a Transition, whatever was in it before.
func TestResolveWritesEveryField(t *testing.T) {
	var wide bpfWideEvent
	ones(reflect.ValueOf(&wide).Elem())
	ev := &wide.Event
	ev.SinceNs, ev.TimeNs, ev.Precision = 1, 3, uint8(PrecisionExact)
	ev.Flags = uint8(bpfEventFlagsEVENT_MINISOCK | bpfEventFlagsEVENT_PORT_BY_BIND)
	var full Transition
	resolve(&wide, testClock(), &full)
	v := reflect.ValueOf(full)
	for i := range v.NumField() {
		// These are made elsewhere, if they are asked for.
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() && name != "Stack" && name != "Metrics" {
			t.Errorf("%s is not made from the event", v.Type().Field(i).Name)
		}
	}
	again := full
	again.Stack, again.Metrics = new(Stack), new(Metrics)
	resolve(new(bpfWideEvent), testClock(), &again)
	var empty Transition
	resolve(new(bpfWideEvent), testClock(), &empty)
	if again != empty {
		t.Errorf("what was there before stays: %+v, want %+v", again, empty)
	}
}

// ones sets every number to 1.
func ones(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "_" {
				ones(v.Field(i))
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			ones(v.Index(i))
		}
	default:
		if v.CanUint() {
			v.SetUint(1)
		} else {
			v.SetInt(1)
		}
	}
}

// An end for which the kernel skipped the program is counted once: by the kernel at once, by a
// sweep a few seconds later.
func TestSkippedEndIsCountedOnce(t *testing.T) {
	skipped := account([]bpfAccount{{}}, 0, 0, 3)
	swept := account([]bpfAccount{{Seen: 3, Missed: 3}}, 0, 0, 3)
	if skipped.Lost.Missed != 3 || skipped.Seen != 3 || swept != skipped {
		t.Errorf("%+v, after the sweep %+v", skipped, swept)
	}
}
