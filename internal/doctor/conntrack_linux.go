package doctor

import (
	"bufio"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"finwait/internal/netns"
	"finwait/internal/sockets"
	"finwait/tracer"
)

// A halfClosed is a socket on which one end has sent a FIN, and the other has not.
type halfClosed struct {
	local, remote netip.AddrPort
	owner         Process
	served        bool
	silence       time.Duration // since the last segment, so far as the socket knows
}

// leastSilence is for how long nothing must have been heard before the table is looked at: it may have
// some hundred thousand lines. mostHalfClosed bounds the memory.
const (
	leastSilence   = 2 * time.Second
	mostHalfClosed = 4096
)

// halfClose takes note of a half-closed socket that is silent. A FIN_WAIT_2 that no process has is over
// before conntrack forgets it.
func (g *gathering) halfClose(r *sockets.Row, owner Process, served bool) {
	i := r.Info
	silence := min(i.DataSent, i.DataReceived, i.AckReceived)
	if !i.Known || silence < leastSilence || owner.PID == 0 {
		return
	}
	if len(g.halfClosed) == mostHalfClosed {
		g.halfClosedLeft++
		return
	}
	g.halfClosed = append(g.halfClosed, halfClosed{r.Local, r.Remote, owner, served, silence})
}

// A tuple is one direction of a connection, as conntrack has it.
type tuple struct{ from, to netip.AddrPort }

// A table is what connection tracking of a namespace knows of those tuples that were asked for.
type table struct {
	entries map[tuple]entry
	changed map[netip.AddrPort]bool // destinations, and servers, whose connections a NAT changes
}

type entry struct {
	state string
	left  time.Duration
	nat   bool
}

// readTable reads /proc/net/nf_conntrack (ct_seq_show(), nf_conntrack_standalone.c).
func readTable(r io.Reader, asked map[tuple]bool) (*table, error) {
	t := &table{entries: make(map[tuple]entry), changed: make(map[netip.AddrPort]bool)}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		first, second, e, ok := parseEntry(lines.Text())
		if !ok {
			continue
		}
		if e.nat && len(t.changed) < mostKeys {
			t.changed[first.to], t.changed[second.from] = true, true
		}
		for _, one := range []tuple{first, second} {
			if asked[one] {
				t.entries[one] = e
			}
		}
	}
	return t, lines.Err()
}

// parseEntry reads a line of a TCP connection, such as "ipv4 2 tcp 6 59 CLOSE_WAIT src=… dst=… sport=…
// dport=… src=…": both directions, each from who sends to who receives.
func parseEntry(line string) (first, second tuple, e entry, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 14 || fields[2] != "tcp" {
		return first, second, e, false
	}
	seconds, err := strconv.ParseInt(fields[4], 10, 64)
	if err != nil {
		return first, second, e, false
	}
	e.state, e.left = fields[5], time.Duration(seconds)*time.Second
	var values [8]string
	n := 0
	for _, f := range fields[6:] {
		key, value, assigned := strings.Cut(f, "=")
		if want := [...]string{"src", "dst", "sport", "dport"}; assigned && n < len(values) && key == want[n%4] {
			values[n] = value
			n++
		}
	}
	var ends [4]netip.AddrPort
	for i := range ends {
		at := i/2*4 + i%2
		addr, err := netip.ParseAddr(values[at])
		port, err2 := strconv.ParseUint(values[at+2], 10, 16)
		if err != nil || err2 != nil {
			return first, second, e, false
		}
		ends[i] = netip.AddrPortFrom(addr.Unmap(), uint16(port))
	}
	first, second = tuple{ends[0], ends[1]}, tuple{ends[2], ends[3]}
	e.nat = first.from != second.to || first.to != second.from
	return first, second, e, true
}

// trackHalfClosed looks half-closed sockets up in the tables of their own network namespace and of the
// initial one, in which the NAT of containers mostly is. Loopback addresses mean other hosts there.
func trackHalfClosed(in *Input, all map[uint32]*gathering, paths map[uint32]string) {
	initial, left := in.initial(), uint64(0)
	for _, s := range in.Spaces {
		g := all[s.Inode]
		if g == nil || len(g.halfClosed) == 0 {
			continue
		}
		left += g.halfClosedLeft
		for _, where := range slices.Compact([]*Space{s, initial}) {
			if where == nil {
				continue
			}
			if n, known := where.number("net.netfilter.nf_conntrack_count"); !known || n == 0 {
				continue
			}
			t, err := tableOf(paths[where.Inode], g.halfClosed, where != s)
			if err != nil {
				in.Missing[NeedConntrack] = whyNoTable(err)
				continue
			}
			g.track(s, where, t)
		}
	}
	if left > 0 && in.Missing[NeedConntrack] == (Why{}) {
		in.Missing[NeedConntrack] = whyHalfClosed(left)
	}
}

func tableOf(path string, of []halfClosed, elsewhere bool) (t *table, err error) {
	asked := make(map[tuple]bool)
	for _, h := range of {
		if !elsewhere || !h.local.Addr().IsLoopback() && !h.remote.Addr().IsLoopback() {
			asked[tuple{h.local, h.remote}] = true
		}
	}
	err = netns.Do(path, func() error {
		f, err := os.Open("/proc/thread-self/net/nf_conntrack")
		if err != nil {
			return err
		}
		defer f.Close()
		t, err = readTable(f, asked)
		return err
	})
	return t, err
}

// track adds to the namespace what a table knows of its half-closed sockets.
func (g *gathering) track(s, where *Space, t *table) {
	for _, h := range g.halfClosed {
		e, known := t.entries[tuple{h.local, h.remote}]
		timeout, limited := where.timeout(e.state)
		server := h.remote
		if h.served {
			server = h.local
		}
		one := Tracked{Left: e.left, Timeout: timeout}
		switch {
		case known && e.nat && limited:
		case !known && where == s && t.changed[server] && h.silence > max(where.longest(), leastSilence):
			one = Tracked{Timeout: where.longest(), Gone: true}
		default:
			continue
		}
		s.addHalfClosed(&h, one)
	}
}

func (s *Space) addHalfClosed(h *halfClosed, one Tracked) {
	key := HalfClosed{Owner: h.owner, Remote: h.remote}
	if h.served {
		key = HalfClosed{Owner: h.owner, Local: h.local.Port()}
	}
	for i := range s.HalfClosed {
		if o := &s.HalfClosed[i]; o.Owner == key.Owner && o.Remote == key.Remote && o.Local == key.Local {
			o.Tracked = append(o.Tracked, one)
			return
		}
	}
	key.Tracked = []Tracked{one}
	s.HalfClosed = append(s.HalfClosed, key)
}

// halfClosedTimeouts are the sysctls of the states of conntrack in which one FIN has been seen
// (nf_conntrack_proto_tcp.c): before it is acknowledged, and after.
var halfClosedTimeouts = map[string]string{
	"FIN_WAIT": "net.netfilter.nf_conntrack_tcp_timeout_fin_wait", "CLOSE_WAIT": "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
}

func (s *Space) timeout(state string) (d time.Duration, known bool) {
	n, known := s.number(halfClosedTimeouts[state])
	return time.Duration(n) * time.Second, known
}

// longest is after what time without a segment no half-closed connection is tracked any more.
func (s *Space) longest() time.Duration {
	fin, _ := s.timeout("FIN_WAIT")
	closeWait, _ := s.timeout("CLOSE_WAIT")
	return max(fin, closeWait)
}

// halfClosedState reports whether a full socket in this state is half-closed.
func halfClosedState(s tracer.State) bool { return s == tracer.CloseWait || s == tracer.FinWait2 }
