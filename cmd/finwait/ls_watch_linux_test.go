package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"finwait/internal/sandbox"

	"golang.org/x/sys/unix"
)

// A liveRow is a socket in a reading of ls --watch.
type liveRow struct {
	at, next  time.Time // of this reading, and of the one after
	state     string
	role      any
	age       time.Duration
	precision string
}

// liveRows are the sockets of every reading but the last, by cookie.
func liveRows(t *testing.T, stdout []byte) map[uint64][]liveRow {
	t.Helper()
	all := make(map[uint64][]liveRow)
	var at time.Time
	var last []*liveRow
	keys := make(map[*liveRow]uint64)
	for _, l := range decodeLines(t, stdout) {
		if l["event"] == "ls" {
			now, err := time.Parse(time.RFC3339Nano, l["time"].(string))
			if err != nil || l["programs"] != true {
				t.Fatalf("%v: %v", l, err)
			}
			for _, w := range last {
				w.next = now
				all[keys[w]] = append(all[keys[w]], *w)
			}
			at, last = now, nil
			continue
		}
		w := &liveRow{at: at, state: l["state"].(string), role: l["role"], precision: l["precision"].(string)}
		if ns, ok := l["age_ns"].(float64); ok {
			w.age = time.Duration(ns)
		}
		last, keys[w] = append(last, w), uint64(l["cookie"].(float64))
	}
	return all
}

// Of what has changed its state while ls --watch runs, the age is exact and the role is known; of
// what was there before, the least is said.
func TestWatch(t *testing.T) {
	t.Parallel()
	f := sandbox.Families[0]
	ns := sandbox.New(t)
	older := ns.Pair(f)
	older.Server.ShutdownWrite()
	older.Client.WaitState(unix.BPF_TCP_CLOSE_WAIT)
	const hold = 700 * time.Millisecond
	time.Sleep(hold)

	out, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p := newFinwait(t, "ls", "--watch", "200ms", "-o", "json", "--sockets", "--netns", pathOf(ns))
	p.Stdout = out
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	p.awaitSaid(t, "Ctrl-C")
	shown := func() []byte {
		b, err := os.ReadFile(out.Name())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	// look waits for three more readings.
	look := func() {
		count := func() int { return bytes.Count(shown(), []byte(`"event":"ls",`)) }
		for n, deadline := count()+3, time.Now().Add(time.Minute); count() < n; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no readings come: %s", p.said())
			}
		}
	}
	began := time.Now()
	pair := ns.Pair(f)
	opened := time.Now()
	look()
	closing := time.Now()
	pair.Client.ShutdownWrite()
	pair.Server.WaitState(unix.BPF_TCP_CLOSE_WAIT)
	closed := time.Now()
	look()
	ending := time.Now()
	pair.Client.DropIncoming(false)
	pair.Server.Close() // its FIN is not acknowledged: LAST_ACK, of which nothing else tells an age
	ended := time.Now()
	look()
	p.finish(t)

	seen := liveRows(t, shown())
	states := make(map[string]int)
	for end, s := range map[string]*sandbox.Sock{"client": pair.Client, "server": pair.Server} {
		for _, w := range seen[s.Cookie] {
			from, to := began, opened
			left := closing // when it is left at the earliest
			switch w.state {
			case "CLOSE_WAIT", "FIN_WAIT_2":
				from, to, left = closing, closed, ending
			case "LAST_ACK":
				from, to = ending, ended
			}
			if w.state != "LAST_ACK" && w.next.After(left) {
				continue // the kernel may have listed it in one state, and the programs have known it in the next
			}
			states[w.state]++
			if w.precision != "exact" || w.role != end || w.age > w.next.Sub(from) || w.age < w.at.Sub(to) {
				t.Errorf("%s: %+v; it began between %v and %v", end, w, from, to)
			}
		}
	}
	for _, state := range []string{"ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT_2", "LAST_ACK"} {
		if states[state] == 0 {
			t.Errorf("no reading shows %s: %v", state, states)
		}
	}
	// tcp_info is older than the programs.
	for _, w := range seen[older.Client.Cookie] {
		if w.state != "CLOSE_WAIT" || w.precision != "at_least" || w.role != nil || w.age < hold/2 {
			t.Errorf("older: %+v", w)
		}
	}
	if len(seen[older.Client.Cookie]) == 0 {
		t.Errorf("the older connection is not shown: %s", p.said())
	}
}

// On a terminal a frame takes the place of the last one, as far as there is room, and what is said of
// it stands below. Elsewhere a frame comes after an empty line.
func TestScreen(t *testing.T) {
	shown, tty := terminal80(t, 6)
	s := &screen{w: tty}
	for _, c := range []struct{ frame, note, want string }{
		{"a\nb\n", "", "\x1b[H\x1b[2Ja\x1b[K\nb\x1b[K\n\x1b[J"},
		{"1\n2\n3\n4\n5\n6\n", "noted", "\x1b[H1\x1b[K\n2\x1b[K\n3\x1b[K\n3 more lines\x1b[K\nINF noted\x1b[K\n\x1b[J"},
		{"a\n", "", "\x1b[Ha\x1b[K\n\x1b[J"},
	} {
		notes := s.notes(nil)
		if c.note != "" {
			notes.Info().Msg(c.note)
		}
		if err := s.show([]byte(c.frame)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 1000)
		n, err := shown.Read(got)
		if text := strings.ReplaceAll(string(got[:n]), "\r\n", "\n"); err != nil || text != c.want {
			t.Errorf("%v: got %q, want %q", err, text, c.want)
		}
	}

	var pipe bytes.Buffer
	s = &screen{w: &pipe}
	log := logger(io.Discard)
	if s.notes(log) != log {
		t.Error("what is said in a pipe does not go to stderr")
	}
	for _, frame := range []string{"a\nb\n", "c\n"} {
		if err := s.show([]byte(frame)); err != nil {
			t.Fatal(err)
		}
	}
	if pipe.String() != "a\nb\n\nc\n" {
		t.Errorf("in a pipe: %q", &pipe)
	}
}

// Without the rights for the programs --watch says so, and shows what it can.
func TestWatchWithoutRights(t *testing.T) {
	t.Parallel()
	p := newFinwait(t, "ls", "--watch", "100ms", "--count", "2", "-o", "json", "--sockets", "--state", "LISTEN")
	p.SysProcAttr = nobody()
	if err := p.Run(); err != nil {
		t.Fatalf("%v: %s", err, p.said())
	}
	var heads []any
	for _, l := range decodeLines(t, p.stdout.Bytes()) {
		if l["event"] == "ls" {
			heads = append(heads, l["programs"])
		}
	}
	if !slices.Equal(heads, []any{false, false}) || strings.Count(p.said(), "the programs cannot be attached") != 1 {
		t.Errorf("%v: %s", heads, p.said())
	}
}
