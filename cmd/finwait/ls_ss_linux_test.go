package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"

	"golang.org/x/sys/unix"
)

// An ssRow is what ss -tanoeim tells of a socket, as ls has it.
type ssRow struct {
	state, local, remote string
	recv, send           uint32
	uid                  uint32 // 0 also if ss does not say
	inode                uint64 // 0: it has none
	timer                string // "": none
	left                 moment // of the timer
	retries              uint8
	idle                 moment
}

// A moment is a time in ms that ss writes more or less exactly.
type moment struct{ from, to int64 }

var ssField = regexp.MustCompile(`\b(uid|ino|sk|timer|lastsnd|lastrcv):(\(.*?\)|\S+)`)

// ssRows asks ss about a namespace, by cookie.
func ssRows(t *testing.T, n *sandbox.NS) map[uint64]ssRow {
	t.Helper()
	if _, err := exec.LookPath("ss"); err != nil {
		t.Fatal("ss is not there to compare with: install iproute2")
	}
	var out []byte
	n.Try(func() (err error) {
		out, err = exec.Command("ss", "-HOtanoeim").Output()
		return err
	})
	all := make(map[uint64]ssRow)
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 5 {
			t.Fatalf("ss printed %q", line)
		}
		row := ssRow{state: ssState(t, f[0]), local: ssAddr(t, f[3]), remote: ssAddr(t, f[4])}
		row.recv, row.send = uint32(ssNumber(t, f[1], 10)), uint32(ssNumber(t, f[2], 10))
		fields := make(map[string]string)
		for _, m := range ssField.FindAllStringSubmatch(line, -1) {
			fields[m[1]] = m[2]
		}
		row.uid, row.inode = uint32(ssNumber(t, fields["uid"], 10)), ssNumber(t, fields["ino"], 10)
		if timer := strings.Split(strings.Trim(fields["timer"], "()"), ","); len(timer) == 3 {
			kind, ok := map[string]string{"on": "retransmit", "keepalive": "keepalive", "timewait": "timewait", "persist": "persist"}[timer[0]]
			if !ok {
				t.Fatalf("ss printed %q", line)
			}
			row.timer, row.left, row.retries = kind, ssTimer(t, timer[1]), uint8(ssNumber(t, timer[2], 10))
		}
		idle := int64(min(ssNumber(t, fields["lastsnd"], 10), ssNumber(t, fields["lastrcv"], 10)))
		row.idle = moment{idle, idle}
		all[ssNumber(t, fields["sk"], 16)] = row
	}
	return all
}

// ssNumber reads a number; ss leaves out those that are 0.
func ssNumber(t *testing.T, s string, base int) uint64 {
	t.Helper()
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, base, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// ssTimer reads what print_ms_timer() of ss writes: 59sec, 204ms, 1.204ms, which is 1204 ms,
// 1min29sec, and 119min. What it leaves out is less than the last unit.
func ssTimer(t *testing.T, s string) moment {
	t.Helper()
	rest, ms, unit := s, int64(0), int64(1)
	if minutes, after, ok := strings.Cut(rest, "min"); ok {
		ms, unit, rest = int64(ssNumber(t, minutes, 10))*60_000, 60_000, after
	}
	if seconds, ok := strings.CutSuffix(rest, "sec"); ok {
		ms, unit, rest = ms+int64(ssNumber(t, seconds, 10))*1000, 1000, ""
	} else if rest != "" {
		seconds, millis, ok := strings.Cut(strings.TrimSuffix(rest, "ms"), ".")
		if !ok {
			seconds, millis = "", seconds
		}
		ms, unit = ms+int64(ssNumber(t, seconds, 10))*1000+int64(ssNumber(t, millis, 10)), 1
	}
	return moment{ms, ms + unit - 1}
}

func byCookie(rows []jsonSocket) map[uint64]jsonSocket {
	all := make(map[uint64]jsonSocket)
	for _, r := range rows {
		all[r.Cookie] = r
	}
	return all
}

// zero is 0 for what is not known.
func zero[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// queues are those that ss has under Recv-Q and Send-Q.
func (s *jsonSocket) queues() [2]uint32 {
	if s.AcceptQueue != nil {
		return [2]uint32{*s.AcceptQueue, *s.AcceptQueueMax}
	}
	return [2]uint32{zero(s.RecvQ), zero(s.SendQ)}
}

func (s *jsonSocket) retries() uint8 { return zero(s.Retransmits) + zero(s.Probes) }

// compareWithSS compares a socket that ls has listed before ss and after it. What has changed
// meanwhile is not compared. It returns what was.
func compareWithSS(t *testing.T, cookie uint64, before, after jsonSocket, row ssRow) (compared []string) {
	t.Helper()
	same := func(what string, was, is, ss any) {
		if was != is {
			return
		}
		compared = append(compared, what)
		if was != ss {
			t.Errorf("%s of sk:%x: ls has %v, ss %v", what, cookie, was, ss)
		}
	}
	local, remote := before.endpoints(t)
	state := func(s string) string { return strings.TrimPrefix(s, "NEW_") } // one and the same to ss
	same("state", state(before.State), state(after.State), row.state)
	if before.State != after.State {
		return compared
	}
	same("local", local.String(), local.String(), row.local)
	same("remote", remote.String(), remote.String(), row.remote)
	same("uid", zero(before.UID), zero(after.UID), row.uid)
	same("inode", zero(before.Inode), zero(after.Inode), row.inode)
	same("queues", before.queues(), after.queues(), [2]uint32{row.recv, row.send})
	same("timer", zero(before.Timer), zero(after.Timer), row.timer)
	if before.Timer != nil && after.Timer != nil && *before.Timer == *after.Timer {
		same("retries of "+*before.Timer, before.retries(), after.retries(), row.retries)
		// A timer that was not started again has less left each time.
		if was, is := *before.TimerLeftMS, *after.TimerLeftMS; is <= was && before.retries() == after.retries() && *before.Timer != "retransmit" {
			compared = append(compared, "left of "+*before.Timer)
			if row.left.from > was || row.left.to < is {
				t.Errorf("sk:%x: %s has %d and then %d ms left, ss says %d to %d", cookie, *before.Timer, was, is, row.left.from, row.left.to)
			}
		}
	}
	if was, is := before.IdleNS, after.IdleNS; was != nil && is != nil && *was <= *is {
		compared = append(compared, "idle")
		if row.idle.from < *was/1e6 || row.idle.to > *is/1e6 {
			t.Errorf("sk:%x: idle for %v and then %v, ss says %d ms", cookie, time.Duration(*was), time.Duration(*is), row.idle.from)
		}
	}
	return compared
}

// Row by row, ls --sockets has what ss -tanoeim has.
func TestLsRowsAgreeWithSS(t *testing.T) {
	n := sandbox.New(t)
	testnet.Fill(t, n, testnet.Loopback()...)
	for _, f := range sandbox.Families {
		unread := n.Pair(f)
		unread.Client.Write()
		unread.Client.Write()
		unread.Server.Wait("two bytes", func(i *unix.TCPInfo) bool { return i.Bytes_received == 2 })

		unanswered := n.Pair(f)
		unanswered.Server.DropIncoming(false)
		unanswered.Client.Write()
		unanswered.Client.Wait("a retransmission", func(i *unix.TCPInfo) bool { return i.Retransmits > 0 })

		full := n.Pair(f)
		full.Client.Fill()

		n.Pair(f).Client.Set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)

		others := n.Pair(f).Client.File()
		if err := others.Chown(1234, -1); err != nil {
			t.Fatal(err)
		}
		others.Close()

		full.Listener.Listen() // the queue of waiting connections is not empty
		for range 3 {
			n.Socket(f).Connect(full.Listener.Local)
		}
	}
	listed := lsSockets(t, "--netns", n.Path())
	before := byCookie(listed)
	rows := ssRows(t, n)
	after := byCookie(lsSockets(t, "--netns", n.Path()))
	if len(before) != len(listed) {
		t.Errorf("%d sockets were listed twice", len(listed)-len(before))
	}
	if a, b := slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(rows)); !slices.Equal(a, b) {
		t.Errorf("ls lists %x, and ss %x", a, b)
	}
	compared := make(map[string]int)
	values := make(map[string]bool)
	for cookie, row := range rows {
		for _, what := range compareWithSS(t, cookie, before[cookie], after[cookie], row) {
			compared[what]++
		}
		s := before[cookie]
		if s.NetNS != n.Inode || (s.Owner != nil) != (row.inode != 0) || s.Owner != nil && (s.Owner.PID != os.Getpid() || !s.Owner.Holder) {
			t.Errorf("netns %d, want %d; with inode %d it is owned by %+v, and this process is %d", s.NetNS, n.Inode, row.inode, s.Owner, os.Getpid())
		}
		values[fmt.Sprintf("recv-q %v, send-q %v", row.recv > 0, row.send > 0)] = true
		values[fmt.Sprintf("uid %d", row.uid)] = true
	}
	// Nothing that is to be compared was left out because it moved.
	for what, least := range map[string]int{
		"state": len(rows), "local": len(rows), "remote": len(rows), "uid": len(rows), "inode": len(rows), "queues": len(rows) - 2, "timer": len(rows) - 4,
		"retries of retransmit": 2, "retries of persist": 1, "retries of keepalive": 2, "left of keepalive": 2, "left of timewait": 6, "idle": 20,
	} {
		if compared[what] < least {
			t.Errorf("%s: compared %d times, want %d of %d", what, compared[what], least, len(rows))
		}
	}
	for _, v := range []string{"recv-q true, send-q true", "recv-q false, send-q true", "recv-q true, send-q false", "uid 1234"} {
		if !values[v] {
			t.Errorf("no socket has %s", v)
		}
	}
}

// While connections come and go, what stays is told as ss tells it.
func TestLsRowsAgreeWithSSUnderChurn(t *testing.T) {
	n := sandbox.New(t)
	testnet.Fill(t, n, testnet.Loopback()...)
	f := sandbox.Families[0]
	l := n.Socket(f).Bind(0).Listen()
	var connections atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	defer func() {
		close(stop)
		<-stopped
	}()
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if s := n.Socket(f); s.TryConnect(l.Local) == nil {
				l.Accept().Close()
				s.Close()
				connections.Add(1)
			}
		}
	}()
	all := 0
	for range 5 {
		before := byCookie(lsSockets(t, "--netns", n.Path()))
		rows := ssRows(t, n)
		after := byCookie(lsSockets(t, "--netns", n.Path()))
		for cookie, row := range rows {
			was, ok := before[cookie]
			is, still := after[cookie]
			// A value that changes and changes back cannot be told from one that stays.
			if churning := was.LocalPort == l.Local.Port() || was.RemotePort == l.Local.Port(); ok && still && !churning {
				all += len(compareWithSS(t, cookie, was, is, row))
			}
		}
	}
	if connections.Load() == 0 || all < 100 {
		t.Errorf("%d connections came and went, %d values were compared", connections.Load(), all)
	}
}
