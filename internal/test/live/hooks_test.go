//go:build linux

package live_test

import (
	"errors"
	"strings"
	"testing"

	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// bestHooks is the set that HooksAuto must choose.
func bestHooks(t *testing.T) tracer.HookSet {
	t.Helper()
	fentry, err := feature("fentry")
	if err != nil {
		t.Fatal(err)
	}
	if fentry.State == tracer.FeatureMissing {
		return tracer.HooksTracepoint
	}
	return tracer.HooksFentry
}

// The tracer uses the hooks that were asked for. Every kernel that finwait runs on has fentry, so
// fentry must attach unless the machine refuses it.
func TestHooks(t *testing.T) {
	t.Parallel()
	want := hooks
	if want == tracer.HooksAuto {
		want = bestHooks(t)
	}
	if got := shared.tracer.Hooks(); got != want {
		t.Errorf("%v hooks are in use, want %v", got, want)
	}
	if bestHooks(t) == tracer.HooksFentry {
		return
	}
	_, err := tracer.New(tracer.Config{Hooks: tracer.HooksFentry})
	refused := new(tracer.HooksError)
	switch {
	case !errors.As(err, &refused) || !errors.Is(err, unix.EPERM):
		t.Errorf("fentry should be refused by the machine, got: %v", err)
	case strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), refused.Function):
		t.Errorf("not a sentence that names the function: %v", err)
	}
}
