package doctor

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"finwait/tracer"
)

var (
	server = netip.MustParseAddrPort("10.0.0.4:8080")
	client = netip.MustParseAddrPort("10.0.0.7:40000")
	target = netip.MustParseAddrPort("10.0.0.9:80")
)

func process(pid uint32, name string) (p tracer.Process) {
	p.PID = pid
	copy(p.Comm[:], name)
	return p
}

// end is a transition of a connection, of which all is known.
func end(role tracer.Role, from, to tracer.State, lasted time.Duration, change ...func(*tracer.Transition)) tracer.Transition {
	t := tracer.Transition{NetNS: 4026531840, Role: role, From: from, To: to, Duration: lasted, Precision: tracer.PrecisionExact}
	if role == tracer.RoleServer {
		t.Local, t.Remote, t.Owner.Process = server, client, process(4, "nginx")
	} else {
		t.Local, t.Remote, t.Owner.Process = netip.AddrPortFrom(netip.MustParseAddr("10.0.0.4"), 40000), target, process(812, "app")
	}
	for _, c := range change {
		c(&t)
	}
	return t
}

func because(r tracer.Reason, d tracer.Detail) func(*tracer.Transition) {
	return func(t *tracer.Transition) { t.Reason, t.Detail, t.Closer = r, d, t.Owner.Process }
}

func toward(remote, local string) func(*tracer.Transition) {
	return func(t *tracer.Transition) {
		t.Remote, t.Local = netip.MustParseAddrPort(remote), netip.MustParseAddrPort(local)
	}
}

func times(n int, ts ...tracer.Transition) []tracer.Transition { return slices.Repeat(ts, n) }

// failed is a connect(2) that failed.
func failed(r tracer.Reason, lasted time.Duration, change ...func(*tracer.Transition)) tracer.Transition {
	return end(tracer.RoleClient, tracer.SynSent, tracer.Closed, lasted, append([]func(*tracer.Transition){because(r, tracer.DetailNone)}, change...)...)
}

func connectedAfter(d time.Duration, change ...func(*tracer.Transition)) tracer.Transition {
	return end(tracer.RoleClient, tracer.SynSent, tracer.Established, d, change...)
}

// closes are both ends of one connection: role is the one that closes first, after so long.
func closes(role tracer.Role, after time.Duration) []tracer.Transition {
	return []tracer.Transition{
		end(role, tracer.Established, tracer.FinWait1, after), end(role, tracer.FinWait1, tracer.FinWait2, time.Microsecond),
		end(role, tracer.FinWait2, tracer.TimeWait, time.Microsecond),
	}
}

// watched is what 10 s of these transitions give, in a quiet namespace.
func watched(change func(*Space), ts ...[]tracer.Transition) *Input {
	in := input(quiet(change))
	w, all := newWatch(), slices.Concat(ts...)
	for i := range all {
		w.add(&all[i])
	}
	in.Stream = &Stream{Window: in.Window, Ended: time.Hour + in.Window}
	w.fill(in.Stream, func(uint32) *Space { return in.Spaces[0] })
	return in
}

// rejected is a client that comes back so long after its RST ended the TIME_WAIT here.
func rejected(waited time.Duration, port uint16) []tracer.Transition {
	at := func(ktime time.Duration) func(*tracer.Transition) {
		return func(t *tracer.Transition) { t.Remote, t.Ktime = netip.AddrPortFrom(t.Remote.Addr(), port), ktime }
	}
	return []tracer.Transition{
		end(tracer.RoleServer, tracer.TimeWait, tracer.Closed, time.Second, because(tracer.ReasonRSTReceived, tracer.DetailNone), at(time.Hour)),
		end(tracer.RoleServer, tracer.Listen, tracer.SynRecv, 0, at(time.Hour+waited)),
	}
}

func listensOn(at string) func(*Space) {
	return func(s *Space) {
		s.Listeners = append(s.Listeners, Listener{Local: netip.MustParseAddrPort(at), Owner: Process{PID: 70, Comm: "postgres"}, Limit: 128})
	}
}

func rearmed(t *tracer.Transition) { t.Rearms = 2 }

func fromPort(port uint16) func(*tracer.Transition) {
	return func(t *tracer.Transition) { t.Local = netip.AddrPortFrom(t.Local.Addr(), port) }
}

func lasting(d time.Duration, n int) []tracer.Transition {
	return times(n, end(tracer.RoleServer, tracer.Established, tracer.FinWait1, d))
}

const (
	ms     = time.Millisecond
	atHome = "10.0.0.4:5432"
)

var watchScenarios = map[string]scenario{
	"a window in which nothing happened": {watched(nil), ""},

	"connect found no port": {watched(full(28232), times(341, failed(tracer.ReasonNoPort, ms, toward("10.0.0.9:80", "10.0.0.4:0")))),
		"port-exhausted failing, tw-reuse-cannot-help note"},
	"connect found no port, and now there are some": {watched(nil, times(2, failed(tracer.ReasonNoPort, ms, toward("10.0.0.9:80", "0.0.0.0:0")))), "port-exhausted failing"},
	"connect found no port, and most are used": {watched(full(23000), times(2, failed(tracer.ReasonNoPort, ms, toward("10.0.0.9:80", "10.0.0.4:0")))),
		"port-exhausted failing, tw-reuse-cannot-help note"},
	"no port towards another destination": {watched(full(23000), times(1, failed(tracer.ReasonNoPort, ms, toward("10.0.0.8:80", "10.0.0.4:0")))),
		"port-exhausted failing, port-pressure note, tw-reuse-cannot-help note"},

	"short connections":                   {watched(nil, times(201, closes(tracer.RoleClient, 5*ms)...)), "short-connections note"},
	"short connections of a server":       {watched(nil, times(201, closes(tracer.RoleServer, 5*ms)...)), "short-connections note, server-closes-first note"},
	"short connections, and few":          {watched(nil, times(200, closes(tracer.RoleClient, 5*ms)...)), ""},
	"many connections that are not short": {watched(nil, times(300, closes(tracer.RoleClient, 600*ms)...)), ""},
	"short connections that the peer closes": {watched(nil, times(300, end(tracer.RoleClient, tracer.Established, tracer.CloseWait, 5*ms))),
		""},

	"a server closes first":  {watched(nil, lasting(4*ms, 45), times(5, end(tracer.RoleServer, tracer.Established, tracer.CloseWait, ms))), "server-closes-first note"},
	"both ends close":        {watched(nil, lasting(4*ms, 44), times(6, end(tracer.RoleServer, tracer.Established, tracer.CloseWait, ms))), ""},
	"a server closes a few":  {watched(nil, lasting(4*ms, 49)), ""},
	"of older connections":   {watched(nil, times(50, end(tracer.RoleServer, tracer.Established, tracer.FinWait1, ms, atLeast))), "server-closes-first note"},
	"of an end not known":    {watched(nil, times(50, end(tracer.RoleUnknown, tracer.Established, tracer.FinWait1, ms))), ""},
	"refused from elsewhere": {watched(nil, times(10, failed(tracer.ReasonRefused, ms))), "refused-storm failing"},
	"refused a few times":    {watched(nil, times(9, failed(tracer.ReasonRefused, ms))), ""},
	"refused here, by nobody": {watched(nil, times(20, failed(tracer.ReasonRefused, ms, toward(atHome, "10.0.0.4:40000")))),
		"refused-storm failing"},
	"refused here, and on another address": {watched(listensOn("127.0.0.1:5432"), times(20, failed(tracer.ReasonRefused, ms, toward(atHome, "10.0.0.4:40000")))),
		"refused-storm failing"},
	"refused here, and now something listens": {watched(listensOn("0.0.0.0:5432"), times(20, failed(tracer.ReasonRefused, ms, toward(atHome, "10.0.0.4:40000")))),
		"refused-storm failing"},
	"refused here, and now something listens on ::": {watched(listensOn("[::]:5432"), times(20, failed(tracer.ReasonRefused, ms, toward(atHome, "10.0.0.4:40000")))),
		"refused-storm failing"},
	"refused here, and something listens on :: for IPv6": {watched(both(listensOn("[::]:5432"), func(s *Space) { s.Listeners[len(s.Listeners)-1].V6Only = true }),
		times(20, failed(tracer.ReasonRefused, ms, toward(atHome, "10.0.0.4:40000")))), "refused-storm failing, ipv6-only-listener note"},
	"refused, of an end not known":     {watched(nil, times(20, end(tracer.RoleUnknown, tracer.SynSent, tracer.Closed, ms, because(tracer.ReasonRefused, tracer.DetailNone)))), ""},
	"refused now and then for minutes": {lastingFor(5*time.Minute, watched(nil, times(99, failed(tracer.ReasonRefused, ms)))), ""},
	"refused often for minutes":        {lastingFor(5*time.Minute, watched(nil, times(100, failed(tracer.ReasonRefused, ms)))), "refused-storm failing"},
	"refused here, and not all listeners were read": {filtered(watched(nil, times(20, failed(tracer.ReasonRefused, ms, toward(atHome, "10.0.0.4:40000"))))),
		"refused-storm failing"},
	"refused in a namespace that was not read": {elsewhere(watched(nil, times(20, failed(tracer.ReasonRefused, ms, toward(atHome, "10.0.0.4:40000"))))),
		"refused-storm failing"},
	"refused, by several processes": {watched(nil, times(5, failed(tracer.ReasonRefused, ms), failed(tracer.ReasonRefused, ms,
		func(t *tracer.Transition) { t.Owner.PID = 813 }))), "refused-storm failing"},

	"lost SYNs": {watched(linear, times(97, connectedAfter(ms)), times(2, connectedAfter(1019*ms)), times(1, connectedAfter(2043*ms))),
		"connect-retransmits slow"},
	"lost SYNs, by the older timers":   {watched(nil, times(7, connectedAfter(ms)), times(3, connectedAfter(3040*ms))), "connect-retransmits slow"},
	"not a moment of the older timers": {watched(nil, times(7, connectedAfter(ms)), times(3, connectedAfter(2040*ms))), ""},
	"a slow path":                      {watched(linear, times(97, connectedAfter(ms)), times(3, connectedAfter(1019*ms)), times(2, connectedAfter(600*ms))), ""},
	"a slower path":                    {watched(linear, times(10, connectedAfter(1200*ms)), times(3, connectedAfter(1019*ms))), ""},
	"two lost SYNs":                    {watched(linear, times(2, connectedAfter(1019*ms))), ""},
	"three lost SYNs of many":          {watched(linear, times(300, connectedAfter(ms)), times(3, connectedAfter(1019*ms))), ""},
	"lost SYNs of a full queue": {watched(both(linear, func(s *Space) { s.Moved["TcpExt.ListenOverflows"] = 12; s.Listeners[0].Waiting = 600 }),
		times(3, connectedAfter(1019*ms, toward("10.0.0.4:443", "10.0.0.4:40000")))), "listen-overflow failing, connect-retransmits slow"},

	"unread data":                      {watched(nil, times(3, reset(tracer.RoleServer, tracer.Established, tracer.DetailUnreadData))), "reset-by-unread-data failing"},
	"unread data, twice":               {watched(nil, times(2, reset(tracer.RoleServer, tracer.Established, tracer.DetailUnreadData))), ""},
	"unread data after shutdown()":     {watched(nil, times(3, reset(tracer.RoleServer, tracer.FinWait1, tracer.DetailUnreadData))), "reset-by-unread-data failing"},
	"unread data that the peer left":   {watched(nil, times(30, reset(tracer.RoleServer, tracer.CloseWait, tracer.DetailUnreadData))), ""},
	"unread data of a client":          {watched(nil, times(30, reset(tracer.RoleClient, tracer.Established, tracer.DetailUnreadData))), ""},
	"linger zero of a client":          {watched(nil, times(3, reset(tracer.RoleClient, tracer.Established, tracer.DetailLingerZero))), "reset-by-linger-zero note"},
	"linger zero of a server":          {watched(nil, times(30, reset(tracer.RoleServer, tracer.Established, tracer.DetailLingerZero))), "reset-by-linger-zero note"},
	"linger zero, nothing on its way":  {watched(nil, times(30, thrown(0))), "reset-by-linger-zero note"},
	"linger zero, data on their way":   {watched(nil, times(29, thrown(0)), times(1, thrown(1448))), "reset-by-linger-zero risk"},
	"linger zero, twice":               {watched(nil, times(2, reset(tracer.RoleClient, tracer.Established, tracer.DetailLingerZero))), ""},
	"a listener that was closed":       {watched(nil, times(30, reset(tracer.RoleServer, tracer.Established, tracer.DetailListenerClosed))), ""},
	"a peer that does not close":       {watched(nil, times(5, expired(tracer.RoleClient, tracer.FinWait2, tracer.DetailOrphan))), "peer-does-not-close note"},
	"clients that do not close":        {watched(nil, times(5, expired(tracer.RoleServer, tracer.FinWait2, tracer.DetailOrphan))), "peer-does-not-close note"},
	"a peer that does not close, once": {watched(nil, times(4, expired(tracer.RoleClient, tracer.FinWait2, tracer.DetailOrphan))), ""},
	"TIME_WAITs that expire":           {watched(nil, times(50, expired(tracer.RoleClient, tracer.TimeWait, tracer.DetailTimeWait))), ""},

	"a race at the server": {watched(nil, lasting(5001*ms, 10), lasting(40*time.Second, 9), times(12, raced(tracer.RoleServer, 5001*ms, 50*ms)...)),
		"keepalive-race failing"},
	"a race, and no idle time": {watched(nil, lasting(5001*ms, 4), lasting(7*time.Second, 5), lasting(9*time.Second, 4), times(3, raced(tracer.RoleServer, 6*time.Second, 50*ms)...)),
		"keepalive-race failing"},
	"a race, and closes at once":                  {watched(nil, lasting(4*ms, 20), times(3, raced(tracer.RoleServer, 6*time.Second, 50*ms)...)), "keepalive-race failing"},
	"a race, and two other closes":                {watched(nil, lasting(5001*ms, 2), times(3, end(tracer.RoleServer, tracer.Established, tracer.FinWait1, 5001*ms, atLeast), raced(tracer.RoleServer, 0, 50*ms)[1])), "keepalive-race failing"},
	"a race at the client":                        {watched(nil, times(20, end(tracer.RoleClient, tracer.Established, tracer.CloseWait, 5001*ms)), times(3, raced(tracer.RoleClient, 5001*ms, 50*ms)...)), "keepalive-race failing"},
	"two races":                                   {watched(nil, times(2, raced(tracer.RoleServer, 5001*ms, 50*ms)...), times(2, raced(tracer.RoleClient, 5001*ms, 50*ms)...)), ""},
	"a client that did not look":                  {watched(nil, times(20, raced(tracer.RoleServer, 5001*ms, 1500*ms)...), times(20, raced(tracer.RoleClient, 5001*ms, 1500*ms)...)), ""},
	"a server that closes before it was told all": {watched(nil, times(20, raced(tracer.RoleServer, 5*ms, ms)...), times(20, raced(tracer.RoleClient, 5*ms, ms)...)), ""},
	"a race that began before the watch":          {watched(nil, times(20, raced(tracer.RoleServer, 5001*ms, 50*ms)[1])), ""},
	"an RST that no data met": {watched(nil, times(20, end(tracer.RoleClient, tracer.Established, tracer.CloseWait, 5001*ms),
		end(tracer.RoleClient, tracer.CloseWait, tracer.Closed, ms, because(tracer.ReasonReset, tracer.DetailNone)))), ""},
	"a close that met a SYN": {watched(nil, times(20, end(tracer.RoleServer, tracer.FinWait2, tracer.Closed, ms, because(tracer.ReasonRSTSent, tracer.DetailSYN)))), ""},

	"the kernel gives up":             {watched(nil, times(3, failed(tracer.ReasonTimedOut, 131*time.Second))), "connect-times-out failing"},
	"the kernel gives two up":         {watched(nil, times(2, failed(tracer.ReasonTimedOut, 131*time.Second))), ""},
	"the program gives up":            {watched(nil, times(14, failed(tracer.ReasonGivenUp, 3001*ms))), "connect-times-out failing"},
	"the program gives few up":        {watched(nil, times(4, failed(tracer.ReasonGivenUp, 3001*ms))), ""},
	"the slower of two":               {watched(nil, times(50, failed(tracer.ReasonGivenUp, 250*ms))), ""},
	"given up at various times":       {watched(nil, times(5, failed(tracer.ReasonGivenUp, time.Second), failed(tracer.ReasonGivenUp, 2*time.Second))), ""},
	"given up, and one answered":      {watched(nil, times(50, failed(tracer.ReasonGivenUp, 3*time.Second)), times(1, connectedAfter(ms))), ""},
	"unreachable":                     {watched(nil, times(3, failed(tracer.ReasonUnreachable, 3*time.Second, hostUnreachable))), "unreachable failing"},
	"unreachable, says an ICMP error": {watched(nil, times(3, failed(tracer.ReasonGivenUp, ms, hostUnreachable))), "unreachable failing"},
	"refused, says an ICMP error":     {watched(nil, times(10, failed(tracer.ReasonGivenUp, ms, portUnreachable))), "refused-storm failing"},
	"unreachable, twice":              {watched(nil, times(2, failed(tracer.ReasonUnreachable, 3*time.Second, hostUnreachable))), ""},

	"SYNs that a TIME_WAIT rejects": {watched(nil, rejected(1020*ms, 1), rejected(1020*ms, 2), rejected(3060*ms, 3)), "syn-rejected-by-time-wait slow"},
	"two such SYNs":                 {watched(nil, rejected(1020*ms, 1), rejected(1020*ms, 2)), ""},
	"clients that come back later":  {watched(nil, rejected(5*time.Second, 1), rejected(5*time.Second, 2), rejected(5*time.Second, 3)), ""},
	"clients that come back at once": {watched(nil, rejected(ms, 1), rejected(ms, 2), rejected(ms, 3)),
		""},

	"a fixed port":        {watched(sysctl("tcp_timestamps", "0"), times(1, failed(tracer.ReasonInUse, ms, fromPort(873)))), "fixed-port-meets-itself failing"},
	"two fixed ports":     {watched(nil, times(3, failed(tracer.ReasonInUse, ms, fromPort(873)), failed(tracer.ReasonInUse, ms, fromPort(874)))), "fixed-port-meets-itself failing"},
	"a port that is free": {watched(nil, times(3, connectedAfter(ms, fromPort(873)))), ""},

	"TIME_WAITs that begin again": {watched(nil, times(95, expired(tracer.RoleServer, tracer.TimeWait, tracer.DetailTimeWait)),
		times(5, end(tracer.RoleServer, tracer.TimeWait, tracer.Closed, 70*time.Second, because(tracer.ReasonExpired, tracer.DetailTimeWait), rearmed))), "time-wait-rearmed note"},
	"five of many that begin again": {watched(nil, times(495, expired(tracer.RoleServer, tracer.TimeWait, tracer.DetailTimeWait)),
		times(5, end(tracer.RoleServer, tracer.TimeWait, tracer.Closed, 70*time.Second, because(tracer.ReasonExpired, tracer.DetailTimeWait), rearmed))), ""},
	"four that begin again": {watched(nil, times(4, end(tracer.RoleServer, tracer.TimeWait, tracer.Closed, 70*time.Second, because(tracer.ReasonExpired, tracer.DetailTimeWait), rearmed))), ""},
}

func lastingFor(window time.Duration, in *Input) *Input {
	in.Window, in.Stream.Window = window, window
	return in
}

func filtered(in *Input) *Input {
	in.Filtered = true
	return in
}

// elsewhere is the same in a namespace that could not be entered.
func elsewhere(in *Input) *Input {
	for _, t := range in.Stream.Targets {
		t.Space = &Space{Inode: 9}
	}
	return in
}

func atLeast(t *tracer.Transition) { t.Precision = tracer.PrecisionAtLeast }

func hostUnreachable(t *tracer.Transition) { _ = t.Errno.UnmarshalText([]byte("EHOSTUNREACH")) }

func portUnreachable(t *tracer.Transition) { _ = t.Errno.UnmarshalText([]byte("ECONNREFUSED")) }

func linear(s *Space) { s.Sysctls["net.ipv4.tcp_syn_linear_timeouts"] = "4" }

func reset(role tracer.Role, from tracer.State, d tracer.Detail) tracer.Transition {
	return end(role, from, tracer.Closed, time.Second, because(tracer.ReasonAborted, d))
}

// thrown is a close with SO_LINGER 0 while so many bytes were not acknowledged.
func thrown(bytes uint32) tracer.Transition {
	return end(tracer.RoleServer, tracer.Established, tracer.Closed, time.Second, because(tracer.ReasonAborted, tracer.DetailLingerZero),
		func(t *tracer.Transition) { t.Metrics = &tracer.Metrics{Known: true, SendQueue: bytes} })
}

func expired(role tracer.Role, from tracer.State, d tracer.Detail) tracer.Transition {
	return end(role, from, tracer.Closed, time.Minute, because(tracer.ReasonExpired, d))
}

// raced is a connection that was open for so long, and whose close met data after so long.
func raced(role tracer.Role, open, after time.Duration) []tracer.Transition {
	if role == tracer.RoleServer {
		return []tracer.Transition{end(role, tracer.Established, tracer.FinWait1, open),
			end(role, tracer.FinWait2, tracer.Closed, after, because(tracer.ReasonRSTSent, tracer.DetailDataAfterClose))}
	}
	return []tracer.Transition{end(role, tracer.Established, tracer.CloseWait, open),
		end(role, tracer.CloseWait, tracer.Closed, after, because(tracer.ReasonReset, tracer.DetailDataUnacked))}
}

func init() { maps.Copy(scenarios, watchScenarios) }

// What a finding says of a scenario is what went in.
func TestWatchNumbers(t *testing.T) {
	for name, want := range map[string]string{
		"connect found no port":                              "[341 812]",
		"short connections":                                  "[201 5ms 12000]",
		"a race at the server":                               "[12 5.001s]",
		"a race, and no idle time":                           "[3 <nil>]",
		"a race at the client":                               "[3 5.001s]",
		"lost SYNs":                                          "[3 100 1, 2]",
		"the program gives up":                               "[14 0 14 3.001s]",
		"the kernel gives up":                                "[3 3 0 <nil>]",
		"refused from elsewhere":                             "[10  <nil>]",
		"a race, and closes at once":                         "[3 <nil>]",
		"a race, and two other closes":                       "[3 <nil>]",
		"refused here, and now something listens on ::":      "[20  <nil>]",
		"refused here, and something listens on :: for IPv6": "[20 elsewhere [::]:5432]",
		"refused here, and not all listeners were read":      "[20  <nil>]",
		"refused in a namespace that was not read":           "[20  <nil>]",
		"refused, by several processes":                      "[10 true]",
		"refused here, by nobody":                            "[20 nothing <nil>]",
		"refused here, and on another address":               "[20 elsewhere 127.0.0.1:5432]",
		"refused here, and now something listens":            "[20  <nil>]",
		"two fixed ports":                                    "[6 <nil> true]",
		"a fixed port":                                       "[1 873 false]",
		"of older connections":                               "[50 50 <nil>]",
		"SYNs that a TIME_WAIT rejects":                      "[3 10.0.0.7]",
		"TIME_WAITs that begin again":                        "[5 100]",
		"lost SYNs of a full queue":                          "[3 12]",
	} {
		keys := map[string]string{
			"port-exhausted": "failed process", "short-connections": "closed established ratio", "keepalive-race": "resets idle",
			"connect-retransmits": "late connected seconds", "connect-times-out": "failed timed_out given_up gave_up_after",
			"refused-storm": "refused why listens_on", "fixed-port-meets-itself": "failed port timestamps", "server-closes-first": "closed_here closed established",
			"syn-rejected-by-time-wait": "connections client", "time-wait-rearmed": "rearmed ended",
		}
		r, err := Examine(watchScenarios[name].in, Choice{})
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for i := range r.Findings {
			f := &r.Findings[i]
			fields := keys[f.ID]
			if name == "lost SYNs of a full queue" && f.ID == "connect-retransmits" {
				fields = "late overflows"
			}
			if name == "refused, by several processes" {
				fields = "refused more_processes"
			}
			if fields == "" {
				continue
			}
			found = true
			var got []string
			for key := range strings.FieldsSeq(fields) {
				i := slices.IndexFunc(slices.Concat(f.Scope, f.Evidence), func(o Field) bool { return o.Key == key })
				v := slices.Concat(f.Scope, f.Evidence)[i].Value
				if p, ok := v.(Process); ok {
					v = p.PID
				}
				got = append(got, fmt.Sprint(v))
			}
			if all := "[" + strings.Join(got, " ") + "]"; all != want {
				t.Errorf("%s: %s %s, want %s", name, f.ID, all, want)
			}
		}
		if !found {
			t.Errorf("%s: %+v", name, r.Findings)
		}
	}
}

// With as many keys as have room, what comes beyond is counted, and said.
func TestWatchIsBounded(t *testing.T) {
	w := newWatch()
	for i := range mostKeys + 100 {
		tr := failed(tracer.ReasonRefused, ms)
		tr.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 80)
		w.add(&tr)
	}
	clients := &Service{}
	for i := range mostClients + 1 {
		for _, tr := range rejected(1020*ms, 1) {
			tr.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 2, 0, byte(i)}), 1)
			w.serve(clients, &tr)
		}
	}
	if len(clients.Rejected) != mostClients {
		t.Errorf("%d clients", len(clients.Rejected))
	}
	for i := range mostWaiting + 100 {
		tr := end(tracer.RoleServer, tracer.TimeWait, tracer.Closed, ms, because(tracer.ReasonRSTReceived, tracer.DetailNone))
		tr.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 80)
		w.serve(&Service{}, &tr)
	}
	busy := newWatch()
	for i := range uint64(mostClosing + 1) {
		tr := end(tracer.RoleServer, tracer.Established, tracer.FinWait1, ms)
		tr.Cookie = i + 1
		busy.add(&tr)
	}
	if len(busy.closing) != mostClosing || len(busy.leaving) != mostClosing || busy.noRoom != 1 {
		t.Errorf("%d and %d closing, %d without room", len(busy.closing), len(busy.leaving), busy.noRoom)
	}
	late := end(tracer.RoleServer, tracer.Established, tracer.FinWait1, ms)
	late.Ktime = closeToFIN + 1
	if busy.add(&late); len(busy.closing) != 1 || len(busy.leaving) != 1 {
		t.Errorf("%d and %d closing", len(busy.closing), len(busy.leaving))
	}
	var many Recent
	for i := range 10 * mostRecent {
		many.add(time.Duration(i))
	}
	if len(w.targets) != mostKeys || w.noRoom != 101 || len(w.rejected) != mostWaiting || len(w.order) != mostWaiting || len(many.last) != mostRecent || many.N != 10*mostRecent {
		t.Errorf("%d targets, %d without room, %d and %d rejected, %d of %d durations", len(w.targets), w.noRoom, len(w.rejected), len(w.order), len(many.last), many.N)
	}
	in := input(quiet(nil))
	in.Stream = &Stream{Lost: tracer.Lost{Missed: 7}}
	w.fill(in.Stream, func(uint32) *Space { return in.Spaces[0] })
	r, err := Examine(in, Choice{Only: []string{"unreachable", "port-pressure"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []NotChecked{{"port-pressure", true, whyLost("missed 7")}, {"port-pressure", true, whyNoRoom(101)},
		{"unreachable", true, whyLost("missed 7")}, {"unreachable", true, whyNoRoom(101)}}
	if !slices.Equal(r.NotChecked, want) {
		t.Errorf("%+v, want %+v", r.NotChecked, want)
	}
}

// Without the programs, the rules that need them are listed, and those that can say something without
// them say it.
func TestWithoutWatch(t *testing.T) {
	in := input(quiet(full(28232)))
	in.Missing = map[Need]Why{NeedStream: whyUnwatched(io.EOF)}
	r, err := Examine(in, Choice{})
	if err != nil {
		t.Fatal(err)
	}
	part, whole := 0, 0
	for _, n := range r.NotChecked {
		switch {
		case n.Part && n.ID == "port-exhausted" && n.Why == whyUnwatched(io.EOF):
			part++
		case !n.Part && n.Why == whyUnwatched(io.EOF):
			whole++
		}
	}
	if part != 1 || whole != needing(NeedStream) || len(r.Findings) != 2 {
		t.Errorf("%+v", r)
	}
}

// needing is how many rules cannot be asked without it.
func needing(need Need) (n int) {
	for _, r := range Rules() {
		if r.Needs&need != 0 {
			n++
		}
	}
	return n
}

// The retries of a SYN are those of tcp_retransmit_timer().
func TestRetries(t *testing.T) {
	for value, want := range map[string]string{"4": "[1 2 3 4 5 7 11 19]", "0": "[1 3 7 15 31]", "": "[1 3 7 15 31]"} {
		s := &Space{Sysctls: map[string]string{}}
		if value != "" {
			s.Sysctls["net.ipv4.tcp_syn_linear_timeouts"] = value
		}
		if got := fmt.Sprint(retries(s)); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
	if got := fmt.Sprint(retries(&Space{})); got != "[1 3 7]" {
		t.Errorf("not known: %s", got)
	}
}
