//go:build linux

package scenario

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"finwait/internal/netns"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

func open(t *testing.T) *Stage {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces: run it as root")
	}
	st, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	return st
}

// A step that fails ends the scenario with the reason.
func TestPlayFails(t *testing.T) {
	for name, c := range map[string]struct {
		run    func(*Stage)
		notRun bool
		say    string
	}{
		"no such sysctl":  {func(st *Stage) { st.Sysctl("no_such_sysctl", "1") }, true, "net.ipv4.no_such_sysctl"},
		"a failing call":  {func(st *Stage) { st.TCP().Connect(st.TCP().Bind(0).Local) }, false, "refused"},
		"one that is not": {func(st *Stage) { st.fails("bind()", nil, unix.EADDRINUSE) }, false, "bind()"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := open(t).Play(t.Context(), &Scenario{Run: func(st *Stage) {
				c.run(st)
				t.Error("it went on")
			}}, false, nil)
			var cannot *NotRunError
			if err == nil || errors.As(err, &cannot) != c.notRun || !strings.Contains(err.Error(), c.say) {
				t.Errorf("%v; want %q, not run: %v", err, c.say, c.notRun)
			}
		})
	}
}

func TestPlayInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	began := time.Now()
	err := open(t).Play(ctx, &Scenario{Run: func(st *Stage) {
		cancel()
		st.Pause(time.Hour)
	}}, false, nil)
	if !errors.Is(err, context.Canceled) || time.Since(began) > time.Minute {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

// The kernel can give the inode number of a removed namespace to a new one.
func TestSee(t *testing.T) {
	st := open(t)
	now := monotonic()
	for want, x := range map[bool]tracer.Transition{
		true:  {NetNS: st.Inode, Ktime: now, Cookie: 1},
		false: {NetNS: st.Inode + 1, Ktime: now, Cookie: 2},
	} {
		if st.See(&x) != want {
			t.Errorf("%+v: want %v", x, want)
		}
	}
	if older := (tracer.Transition{NetNS: st.Inode, Ktime: st.began - 1}); st.See(&older) {
		t.Error("a transition that is older than the namespace is taken for its own")
	}
	st.removed = monotonic()
	for want, cookie := range map[bool]uint64{true: 1, false: 3} {
		if x := (tracer.Transition{NetNS: st.Inode, Ktime: st.removed + 1, Cookie: cookie}); st.See(&x) != want {
			t.Errorf("of socket %d, after the namespace was removed: want %v", cookie, want)
		}
	}
	if n := len(st.Seen()); n != 1 {
		t.Errorf("%d sockets were seen, want 1", n)
	}
}

// A closed stage leaves nothing, and its sysctls do not change those of the host.
func TestNothingIsLeft(t *testing.T) {
	const sysctl = "/proc/sys/net/ipv4/tcp_fin_timeout"
	before, err := os.ReadFile(sysctl)
	if err != nil {
		t.Fatal(err)
	}
	st := open(t)
	inode := st.Inode
	if err := st.Play(t.Context(), &Scenario{Run: func(st *Stage) { st.Sysctl("tcp_fin_timeout", "7") }}, false, nil); err != nil {
		t.Fatal(err)
	}
	st.Close()
	if after, err := os.ReadFile(sysctl); err != nil || string(after) != string(before) {
		t.Errorf("tcp_fin_timeout was %s, is %s, %v", before, after, err)
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if ino, err := netns.Inode("/proc/self/task/" + task.Name() + "/ns/net"); err == nil && ino == inode {
			t.Errorf("thread %s is still in the namespace", task.Name())
		}
	}
}
