//go:build linux

package live_test

import (
	"errors"
	"strings"
	"testing"

	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// What the features say of fentry is what New does. Every kernel that finwait runs on
// has it; only a refusal by the machine excuses that it does not attach.
func TestHooks(t *testing.T) {
	t.Parallel()
	fentry, err := feature("fentry on inet_twsk_kill")
	if err != nil {
		t.Fatal(err)
	}
	want := tracer.Fentry
	if fentry.State == tracer.Missing {
		want = tracer.Tracepoint
	}

	auto, err := tracer.New(tracer.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer auto.Close()
	if auto.Hooks() != want {
		t.Errorf("auto took %v hooks, although %s is %v", auto.Hooks(), fentry.Name, fentry.State)
	}

	forced, err := tracer.New(tracer.Config{Hooks: tracer.Fentry})
	if err == nil {
		forced.Close()
	}
	refused := new(tracer.HooksError)
	switch {
	case want == tracer.Fentry && err != nil:
		t.Error(err)
	case want == tracer.Tracepoint && !(errors.As(err, &refused) && errors.Is(err, unix.EPERM)):
		t.Errorf("fentry should be refused by the machine, got: %v", err)
	case want == tracer.Tracepoint && (strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), refused.Function)):
		t.Errorf("not a sentence that names the function: %v", err)
	}
}
