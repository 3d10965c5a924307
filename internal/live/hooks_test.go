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

	auto := shared.tracer
	if hooks == tracer.Fentry {
		if auto, err = tracer.New(tracer.Config{}); err != nil {
			t.Fatal(err)
		}
		defer auto.Close()
	}
	if hooks != tracer.Tracepoint && auto.Hooks() != want {
		t.Errorf("auto took %v hooks, although %s is %v", auto.Hooks(), fentry.Name, fentry.State)
	}
	if hooks != tracer.Auto && shared.tracer.Hooks() != hooks {
		t.Errorf("%v hooks are in use, %v were asked for", shared.tracer.Hooks(), hooks)
	}
	if want == tracer.Fentry {
		return
	}

	_, err = tracer.New(tracer.Config{Hooks: tracer.Fentry})
	refused := new(tracer.HooksError)
	switch {
	case !errors.As(err, &refused) || !errors.Is(err, unix.EPERM):
		t.Errorf("fentry should be refused by the machine, got: %v", err)
	case strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), refused.Function):
		t.Errorf("not a sentence that names the function: %v", err)
	}
}
