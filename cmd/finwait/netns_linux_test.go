package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"finwait/internal/netns"
	"finwait/internal/sandbox"

	"golang.org/x/sys/unix"
)

// named gives a namespace a name, as ip-netns(8) does. remove takes it away, with the namespace.
func named(t *testing.T, ns *sandbox.NS, name string) (remove func()) {
	t.Helper()
	path := filepath.Join(netns.RunDir, name)
	if err := os.MkdirAll(netns.RunDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(ns.Path(), path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	remove = func() {
		_ = unix.Unmount(path, unix.MNT_DETACH)
		_ = os.Remove(path)
		ns.Remove()
	}
	t.Cleanup(remove)
	return remove
}

// With a name or a number one namespace is followed, until it is gone, which is said once. What
// then has its name, and its number too if the kernel gives that again, is another.
func TestNetNSGone(t *testing.T) {
	name := fmt.Sprintf("finwait-test-%d", os.Getpid())
	first := sandbox.New(t)
	remove := named(t, first, name)
	use := func(ns *sandbox.NS) {
		p := ns.Pair(sandbox.Families[0])
		p.Client.Reset()
		p.Server.WaitState(unix.BPF_TCP_CLOSE)
		p.Server.Close()
		p.Listener.Close()
	}

	traced := startFinwait(t, "trace", "--output", "json", "--netns", name)
	counted := startFinwait(t, "stat", "--output", "json", "--netns", fmt.Sprint(first.Inode))
	for _, p := range []*process{traced, counted} {
		p.awaitSaid(t, "Ctrl-C ends it")
		p.awaitConfined(t)
	}
	split := startFinwait(t, "stat", "--output", "json", "--by", "netns", "--top", "1000")
	split.awaitSaid(t, "Ctrl-C ends it")
	use(first)
	remove()
	var second *sandbox.NS
	for range 50 { // the number may be given again, once the first is gone
		if second != nil {
			second.Remove()
			time.Sleep(50 * time.Millisecond)
		}
		if second = sandbox.New(t); second.Inode == first.Inode {
			break
		}
	}
	t.Logf("numbers %d and %d, cookies %d and %d", first.Inode, second.Inode, first.Cookie, second.Cookie)
	named(t, second, name)
	traced.awaitSaid(t, "network namespace "+name+" is gone")
	counted.awaitSaid(t, fmt.Sprintf("network namespace %d is gone", first.Inode))
	use(second)
	for _, p := range []*process{traced, counted} {
		p.finish(t)
		if said := p.said(); strings.Count(said, "is gone") != 1 {
			t.Errorf("%v said %s", p.Args, said)
		}
	}

	shown := 0
	for _, l := range decodeLines(t, traced.stdout.Bytes()) {
		if l["event"] != "transition" {
			continue
		}
		shown++
		if l["netns"] != float64(first.Inode) || l["netns_cookie"] != float64(first.Cookie) {
			t.Errorf("shown: %v", l)
		}
	}
	const whole = 8 // two of the listener, three of each end
	if shown != whole {
		t.Errorf("%d transitions, want %d: %s", shown, whole, &traced.stdout)
	}
	established := func(states []statState) uint64 {
		i := slices.IndexFunc(states, func(s statState) bool { return s.State == "ESTABLISHED" })
		return states[i].Entered
	}
	if n := established(statObjects(t, counted.stdout.String())[0].States); n != 2 {
		t.Errorf("stat counted %d sockets that were established, want 2", n)
	}
	split.finish(t)
	got := make(map[uint64]uint64)
	for _, g := range statObjects(t, split.stdout.String())[0].Groups {
		got[g.NetNSCookie] += established(g.States)
	}
	for _, ns := range []*sandbox.NS{first, second} {
		if got[ns.Cookie] != 2 {
			t.Errorf("by namespace: %v, want 2 of %d", got, ns.Cookie)
		}
	}
}

// A number that no namespace has is refused, and so is a namespace that may not be entered.
func TestNetNSNotFound(t *testing.T) {
	name := fmt.Sprintf("finwait-refused-%d", os.Getpid())
	named(t, sandbox.New(t), name)
	for _, c := range []struct {
		args []string
		say  string
		code int
	}{
		{[]string{"trace", "--netns", "1"}, "no network namespace with the number 1", exitUsage},
		{[]string{"ls", "--netns", "1"}, "no network namespace with the number 1", exitUsage},
		{[]string{"trace", "--netns", name}, "CAP_SYS_ADMIN", exitFailure},
		{[]string{"ls", "--netns", name}, "CAP_SYS_ADMIN", exitFailure},
	} {
		p := newFinwait(t, c.args...)
		p.SysProcAttr = nobody(least...)
		_ = p.Run()
		said := p.said()
		if p.ProcessState.ExitCode() != c.code || !strings.Contains(said, c.say) || strings.Count(said, "\n") != 1 {
			t.Errorf("%v: exit code %d, said %q", c.args, p.ProcessState.ExitCode(), said)
		}
	}
}
