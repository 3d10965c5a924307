package jsonl

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"finwait/internal/test/saved"
	"finwait/tracer"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var comparable = []cmp.Option{
	cmpopts.EquateComparable(netip.AddrPort{}), cmp.AllowUnexported(tracer.Durations{}),
	cmp.Comparer(func(a, b tracer.Durations) bool { return a == b }),
}

// write gives the line of a value.
func write(t testing.TB, value any) []byte {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out)
	for _, word := range FieldWords() {
		if err := w.Fields.Add(word); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	switch v := value.(type) {
	case *tracer.Transition:
		err = w.Transition(v)
	case *tracer.Segment:
		err = w.Segment(v)
	case *tracer.RawEvent:
		err = w.Raw(v)
	case *Summary:
		err = w.End(v.Stats, v.Hooks)
	case *tracer.Totals:
		err = w.Totals(v)
	default:
		t.Fatalf("%T", value)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// readBack writes a value and reads it.
func readBack(t testing.TB, value any) {
	t.Helper()
	line := write(t, value)
	got, err := Read(line)
	if err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	if diff := cmp.Diff(value, got, comparable...); diff != "" {
		t.Fatalf("(-written +read)\n%s\n%s", diff, line)
	}
}

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

func number[T ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~int32 | ~int64](r *rand.Rand) T {
	// Small numbers, large ones, and 0, which must stay apart from null.
	return T(pick(r, []uint64{0, 1, 7, r.Uint64() & math.MaxInt64, r.Uint64() % 1000, math.MaxInt64}))
}

func endpoint(r *rand.Rand) netip.AddrPort {
	var a16 [16]byte
	for i := range a16 {
		a16[i] = byte(r.Uint32())
	}
	return netip.AddrPortFrom(pick(r, []netip.Addr{
		netip.AddrFrom16(a16), netip.AddrFrom4([4]byte(a16[:4])), netip.IPv6Unspecified(), netip.IPv4Unspecified(),
		netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff, 15: 1}),
	}), number[uint16](r))
}

// aProcess is one of any name, of 15 bytes at most, or none.
func aProcess(r *rand.Rand) (p tracer.Process) {
	if p.PID = number[uint32](r); p.PID == 0 {
		return p
	}
	for i := range r.IntN(16) {
		p.Comm[i] = byte(1 + r.IntN(255))
		if r.IntN(2) == 0 {
			p.Comm[i] = 'a'
		}
	}
	return p
}

// aScope is that of a link-local address, whose interface may not be known, or none.
func aScope(r *rand.Rand) tracer.Scope {
	if id := number[uint32](r); id != 0 {
		return tracer.Scope{ID: id, Interface: pick(r, []string{"", "eth0", "br-ö\"\\"})}
	}
	return tracer.Scope{}
}

// someMetrics are known or not; nil if nobody asked.
func someMetrics(r *rand.Rand) *tracer.Metrics {
	switch r.IntN(3) {
	case 0:
		return nil
	case 1:
		return new(tracer.Metrics)
	}
	return &tracer.Metrics{
		Known: true, BytesSent: number[uint64](r), BytesReceived: number[uint64](r), RTT: number[time.Duration](r),
		Retransmitted: number[uint32](r), Cwnd: number[uint32](r), MSS: number[uint32](r), RecvQueue: number[uint32](r), SendQueue: number[uint32](r),
		Silence: pick(r, []time.Duration{-1, 0, 7 * time.Millisecond, time.Hour}),
	}
}

// aStack is one of what was asked for, whole, in part or not known; nil if nobody asked.
func aStack(r *rand.Rand) *tracer.Stack {
	st := &tracer.Stack{Of: pick(r, append(tracer.AllStacks(), tracer.StacksNone))}
	if st.Of == tracer.StacksNone {
		return nil
	}
	if st.Of&tracer.StacksKernel != 0 {
		for range r.IntN(4) {
			st.Kernel = append(st.Kernel, pick(r, []tracer.KernelFrame{
				{Symbol: "tcp_close", Offset: r.Uint64()}, {Symbol: "x.cold"}, {Address: r.Uint64()},
			}))
		}
	}
	if st.Of&tracer.StacksUser == 0 || r.IntN(3) == 0 {
		return st
	}
	st.PID, st.UserTruncated = number[uint32](r), pick(r, []bool{false, true})
	for range 1 + r.IntN(3) {
		st.User = append(st.User, tracer.UserFrame{
			Address: r.Uint64(), Module: pick(r, []string{"", "/usr/lib/libc.so.6", "/tmp/\"ö\n\x1b"}), BuildID: pick(r, []string{"", "00ff"}),
			Symbol: pick(r, []string{"", "close", "main.(*T[go.shape.int]).f"}), Offset: number[uint64](r),
		})
	}
	return st
}

func aTime(r *rand.Rand) time.Time {
	return time.Unix(r.Int64N(4e9), pick(r, []int64{0, 1, 999_999_999, r.Int64N(1e9)})).UTC()
}

func aTransition(r *rand.Rand) *tracer.Transition {
	t := &tracer.Transition{
		Time: aTime(r), Ktime: number[time.Duration](r), Cookie: number[uint64](r), NetNS: number[uint32](r),
		NetNSCookie: number[uint64](r), Local: endpoint(r), Remote: endpoint(r), From: pick(r, tracer.States()), To: pick(r, tracer.States()),
		Precision: pick(r, tracer.Precisions()), Role: pick(r, tracer.Roles()), Reason: pick(r, tracer.Reasons()),
		Closer: aProcess(r), Handler: aProcess(r), Rearms: number[uint32](r), Source: pick(r, tracer.Sources()), Scope: aScope(r), Stack: aStack(r), Metrics: someMetrics(r),
	}
	if t.RSTBy.End = pick(r, tracer.RSTEnds()); t.RSTBy.End != tracer.RSTEndUnknown {
		t.RSTBy.Process = aProcess(r)
	}
	if t.Known() {
		t.Duration = number[time.Duration](r)
	}
	if t.Owner.Process = aProcess(r); t.Owner.PID != 0 {
		t.Owner.UID, t.Owner.CgroupID, t.Owner.Holder = number[uint32](r), number[uint64](r), pick(r, []bool{false, true})
	}
	return t
}

func aRaw(r *rand.Rand) *tracer.RawEvent {
	e := &tracer.RawEvent{
		Time: aTime(r), Ktime: number[time.Duration](r), Hook: pick(r, tracer.Hooks()), CPU: number[uint8](r), Task: aProcess(r),
		Cookie: number[uint64](r), NetNS: number[uint32](r), NetNSCookie: number[uint64](r),
		Local: endpoint(r), Remote: endpoint(r), Scope: aScope(r), From: pick(r, tracer.States()),
		Minisock: number[uint64](r), Stack: aStack(r),
	}
	if e.Minisock == 0 {
		e.To, e.Err = pick(r, tracer.States()), number[uint16](r)
	} else {
		e.TimerLeft = number[int32](r)
	}
	return e
}

func aSummary(r *rand.Rand) *Summary {
	s := &Summary{Hooks: pick(r, tracer.HookSets())}
	s.Stats.Seen, s.Stats.Filtered, s.Stats.Delivered = number[uint64](r), number[uint64](r), number[uint64](r)
	for _, cause := range tracer.Losses() {
		s.Stats.Lost.Add(cause, number[uint64](r))
	}
	return s
}

func someTotals(r *rand.Rand) *tracer.Totals {
	t := new(tracer.Totals)
	for range r.IntN(200) {
		t.Add(aTransition(r))
	}
	t.Ungrouped = number[uint64](r)
	t.Gone[pick(r, tracer.States())] = number[uint64](r)
	return t
}

// What is written reads back into an equal value.
func TestReadBack(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		readBack(t, aTransition(r))
		readBack(t, aRaw(r))
		readBack(t, aSummary(r))
	}
	for range 200 {
		readBack(t, someTotals(r))
	}
}

// So does what the kernel reported of every scenario.
func TestReadSaved(t *testing.T) {
	all, err := saved.All()
	if err != nil || len(all) == 0 {
		t.Fatal(len(all), err)
	}
	for _, run := range all {
		for i := range run.Transitions {
			tr := run.Transitions[i].Tracer()
			readBack(t, &tr)
		}
		for i := range run.Raws {
			raw := run.Raws[i].Tracer()
			readBack(t, &raw)
		}
		readBack(t, run.Totals.Tracer())
		readBack(t, &Summary{Stats: run.Stats.Tracer(), Hooks: tracer.HooksTracepoint})
	}
}

func aSegment(r *rand.Rand) *tracer.Segment {
	s := &tracer.Segment{
		Time: aTime(r), Ktime: number[time.Duration](r), NetNS: number[uint32](r), NetNSCookie: number[uint64](r),
		Local: endpoint(r), Remote: endpoint(r), Scope: aScope(r),
		Kind: pick(r, []tracer.SegmentKind{tracer.SegmentRSTSent, tracer.SegmentRSTReceived, tracer.SegmentSYNACKAgain}),
	}
	switch s.Kind {
	case tracer.SegmentRSTSent:
		s.Reason = pick(r, []string{"", "no_socket"})
	case tracer.SegmentRSTReceived:
		s.Cookie = number[uint64](r)
	case tracer.SegmentSYNACKAgain:
		s.Retransmits = number[uint8](r)
	}
	return s
}

// Segments are read back as they were written, and a summary with their accounts.
func TestReadSegments(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 2000 {
		readBack(t, aSegment(r))
	}
	accounts := tracer.SegmentAccounts{Seen: 15, Filtered: 1, Delivered: 2, Limited: 4, RingFull: 8}
	readBack(t, &Summary{Stats: tracer.Stats{Segments: accounts}, Hooks: tracer.HooksTracepoint})
	s := tracer.Segment{Local: netip.MustParseAddrPort("127.0.0.1:9"), Remote: netip.MustParseAddrPort("127.0.0.1:10"), Kind: tracer.SegmentRSTReceived}
	line := string(write(t, &s))
	for name, bad := range map[string][2]string{
		"no direction": {`"direction":"received",`, ``},
		"no cookie":    {`"cookie":0,`, ``},
		"no reason":    {`"cookie":0,"reason":null`, `"cookie":0`},
		"empty reason": {`"reason":null`, `"reason":""`},
		"no address":   {`"remote_addr":"127.0.0.1",`, ``},
	} {
		if got, err := Read([]byte(strings.Replace(line, bad[0], bad[1], 1))); err == nil {
			t.Errorf("%s was read: %+v, from %s", name, got, line)
		}
	}
}

// Only the metrics that were asked for are written, null if they are not known.
func TestFields(t *testing.T) {
	tr := sample()
	tr.Metrics = &tracer.Metrics{Known: true, BytesSent: 3, BytesReceived: 4, RTT: 1500, Cwnd: 10, Silence: 7000}
	for word, want := range map[string]string{
		"bytes": `"minisock","bytes_sent":3,"bytes_received":4}`, "rtt": `"minisock","rtt_ns":1500}`,
		"retransmits": `"minisock","retransmitted":0}`, "cwnd": `"minisock","cwnd":10}`, "mss": `"minisock","mss":0}`,
		"queues": `"minisock","recv_q":0,"send_q":0}`, "silence": `"minisock","silence_ns":7000}`,
	} {
		var out bytes.Buffer
		w := NewWriter(&out)
		if err := errors.Join(w.Fields.Add(word), w.Transition(&tr)); err != nil || !strings.HasSuffix(out.String(), want+"\n") {
			t.Errorf("%s: %v, %s", word, err, out.String())
		}
	}
	if err := new(Fields).Add("x"); err == nil {
		t.Error("fields x were added")
	}
	unknown := sample()
	unknown.Metrics = new(tracer.Metrics)
	line := string(write(t, &unknown))
	if !strings.Contains(line, `"bytes_sent":null,"bytes_received":null,"rtt_ns":null,`) {
		t.Error(line)
	}
	for _, bad := range []string{`"bytes_sent":1`, `"rtt_ns":5`, `"cwnd":-1`} {
		name, _, _ := strings.Cut(bad, ":")
		changed := strings.Replace(line, name+":null", bad, 1)
		if got, err := Read([]byte(changed)); err == nil || changed == line {
			t.Errorf("%s was read: %+v", changed, got)
		}
	}
}

// What cannot be of a stack is an error.
func TestReadStack(t *testing.T) {
	tr := sample()
	tr.Stack = &tracer.Stack{
		Of: tracer.StacksBoth, Kernel: []tracer.KernelFrame{{Symbol: "tcp_close", Offset: 26}, {Address: 0xff}},
		User: []tracer.UserFrame{{Address: 0x7f01, Module: "/bin/x", BuildID: "ab", Offset: 5}}, PID: 7,
	}
	line := string(write(t, &tr))
	const want = `,"kernel_stack":["tcp_close+0x1a","0xff"],"user_stack":[{"module":"/bin/x","build_id":"ab","symbol":null,` +
		`"offset":5,"address":"0x7f01"}],"user_stack_truncated":false,"user_stack_pid":7}`
	if !strings.Contains(line, want) {
		t.Errorf("got  %swant %s", line, want)
	}
	for name, bad := range map[string][2]string{
		"a frame of the kernel": {`"tcp_close+0x1a"`, `"tcp_close+26"`},
		"no frames":             {`["tcp_close+0x1a","0xff"]`, `[]`},
		"no frames of programs": {`"user_stack":[`, `"user_stack":[],"other":[`},
		"no truncated":          {`"user_stack_truncated":false,`, ``},
		"no process":            {`"user_stack_pid":7`, `"user_stack_pid":null`},
		"no offset":             {`"offset":5,`, ``},
		"offset null":           {`"symbol":null,"offset":5`, `"symbol":"f","offset":null`},
		"empty module":          {`"/bin/x"`, `""`},
		"an address":            {`"0x7f01"`, `"7f01"`},
		"a frame that is null":  {`"user_stack":[`, `"user_stack":[null,`},
	} {
		changed := strings.Replace(line, bad[0], bad[1], 1)
		if got, err := Read([]byte(changed)); err == nil || changed == line {
			t.Errorf("%s was read: %+v, from %s", name, got, changed)
		}
	}
}

// Bytes that are not UTF-8 have a field of their own, and only they.
func TestCommHex(t *testing.T) {
	tr := sample()
	tr.Owner.Comm, tr.Closer.Comm = comm("\xff\xfeb"), comm("naïve")
	line := string(write(t, &tr))
	if !strings.Contains(line, `"comm":"`+"\ufffd\ufffd"+`b","comm_hex":"fffe62","uid"`) || strings.Count(line, "comm_hex") != 1 {
		t.Error(line)
	}
	readBack(t, &tr)
}

// A local port that the kernel has not chosen is null; lines of before said 0. A listener
// has no remote port: that is known, and 0.
func TestLocalPort(t *testing.T) {
	tr, raw := sample(), aRaw(rand.New(rand.NewPCG(5, 6)))
	tr.Local, tr.Remote = netip.AddrPortFrom(tr.Local.Addr(), 0), netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	raw.Local, raw.Remote = tr.Local, tr.Remote
	const now, before = `"local_port":null`, `"local_port":0`
	for _, value := range []any{&tr, raw} {
		line := string(write(t, value))
		if !strings.Contains(line, now) || !strings.Contains(line, `"remote_port":0`) {
			t.Error(line)
		}
		for _, spelling := range []string{now, before} {
			got, err := Read([]byte(strings.Replace(line, now, spelling, 1)))
			if diff := cmp.Diff(value, got, comparable...); err != nil || diff != "" {
				t.Errorf("%s: %v (-written +read)\n%s", spelling, err, diff)
			}
		}
	}
}

// Each exported field of a Transition and a RawEvent changes the JSON: one that is
// added must be written.
func TestEveryFieldIsWritten(t *testing.T) {
	tr := sample()
	tr.Role, tr.Handler = tracer.RoleClient, tr.Closer
	tr.Scope = tracer.Scope{ID: 2, Interface: "eth0"}
	tr.RSTBy = tracer.RSTSender{End: tracer.RSTEndListener, Process: tr.Closer}
	changeEach(t, reflect.ValueOf(&tr).Elem(), "Transition", func() string { return string(write(t, &tr)) })
	raw := aRaw(rand.New(rand.NewPCG(3, 4)))
	raw.Task.PID = 1
	raw.Scope = tracer.Scope{ID: 2, Interface: "eth0"}
	raw.Minisock, raw.To, raw.Err, raw.TimerLeft = 0, tracer.Closed, 1, 0
	changeEach(t, reflect.ValueOf(raw).Elem(), "RawEvent", func() string { return string(write(t, raw)) }, "RawEvent.TimerLeft")
	raw.Minisock, raw.To, raw.Err = 1, 0, 0
	changeEach(t, reflect.ValueOf(raw).Elem(), "RawEvent", func() string { return string(write(t, raw)) }, "RawEvent.To", "RawEvent.Err")
}

// changeEach changes one field after the other. A raw event has fields of a full
// socket or of a minisock, but for the others.
func changeEach(t *testing.T, v reflect.Value, name string, line func() string, but ...string) {
	for i := range v.NumField() {
		f, name := v.Field(i), name+"."+v.Type().Field(i).Name
		old := reflect.New(f.Type()).Elem()
		old.Set(f)
		before := line()
		switch value := f.Interface().(type) {
		case time.Time:
			f.Set(reflect.ValueOf(value.Add(1)))
		case netip.AddrPort:
			f.Set(reflect.ValueOf(netip.AddrPortFrom(value.Addr().Next(), value.Port())))
			if line() == before {
				t.Errorf("the address of %s is not in %s", name, before)
			}
			f.Set(reflect.ValueOf(netip.AddrPortFrom(value.Addr(), value.Port()+1)))
		case tracer.Comm:
			f.Set(reflect.ValueOf(comm("another")))
		default:
			switch {
			case f.Type() == reflect.TypeFor[*tracer.Metrics]():
				f.Set(reflect.ValueOf(&tracer.Metrics{Known: true}))
			case f.Type() == reflect.TypeFor[*tracer.Stack]():
				if f.IsNil() {
					f.Set(reflect.ValueOf(&tracer.Stack{Of: tracer.StacksBoth}))
				} else {
					f.SetZero()
				}
			case f.Kind() == reflect.Struct:
				changeEach(t, f, name, line, but...)
				continue
			case f.Kind() == reflect.Bool:
				f.SetBool(!f.Bool())
			case f.Kind() == reflect.String:
				f.SetString(f.String() + "x")
			case f.CanUint():
				f.SetUint(f.Uint() ^ 1)
			case f.CanInt():
				f.SetInt(f.Int() + 1)
			default:
				t.Fatalf("%s is a %v", name, f.Type())
			}
		}
		if changed := line() != before; changed == contains(but, name) {
			t.Errorf("%s changes the JSON: %v, in %s", name, changed, before)
		}
		f.Set(old)
	}
}

func contains(list []string, name string) bool {
	for _, n := range list {
		if n == name {
			return true
		}
	}
	return false
}

// What cannot have been written is refused, and never becomes 0.
func TestReadRefuses(t *testing.T) {
	tr := sample()
	good := string(write(t, &tr))
	for name, c := range map[string]struct{ old, new string }{
		"no JSON":              {`{"time"`, `{time`},
		"cut":                  {`"source":"minisock"}`, ``},
		"no cookie":            {`"cookie":4098,`, ``},
		"null cookie":          {`"cookie":4098`, `"cookie":null`},
		"no precision":         {`"precision":"exact",`, ``},
		"null duration":        {`"duration_ns":43159000`, `"duration_ns":null`},
		"unknown, with one":    {`"precision":"exact"`, `"precision":"unknown"`},
		"a state":              {`"to":"TIME_WAIT"`, `"to":"TIME"`},
		"a reason":             {`"reason":"fin_received"`, `"reason":"new_reason"`},
		"a role":               {`"role":"client"`, `"role":""`},
		"pid 0":                {`"closer":{"pid":11054`, `"closer":{"pid":0`},
		"no uid":               {`,"uid":0`, ``},
		"long name":            {`"comm":"python3","uid"`, `"comm":"sixteen bytes...","uid"`},
		"name with a 0":        {`"comm":"python3","uid"`, `"comm":"py\u0000","uid"`},
		"hex of UTF-8":         {`"comm":"python3","uid"`, `"comm":"p","comm_hex":"70","uid"`},
		"no hex":               {`"comm":"python3","uid"`, `"comm":"p","comm_hex":"7","uid"`},
		"an address":           {`"local_addr":"127.0.0.1"`, `"local_addr":"127.0.0"`},
		"a port":               {`"local_port":54334`, `"local_port":65536`},
		"no port":              {`"local_port":54334,`, ``},
		"null remote port":     {`"remote_port":33403`, `"remote_port":null`},
		"a negative re-arm":    {`"rearms":0`, `"rearms":-1`},
		"a time without zone":  {`123456789Z`, `123456789`},
		"no owner":             {`"owner":{"pid":11054,"comm":"python3","uid":0,"cgroup_id":1,"holder":false},`, ``},
		"no closer":            {`"closer":{"pid":11054,"comm":"python3"},"handler"`, `"handler"`},
		"no role":              {`"role":"client",`, ``},
		"another spelling":     {`"to":"TIME_WAIT"`, `"to":"time-wait"`},
		"hex of another":       {`"comm":"python3","uid"`, `"comm":"bash","comm_hex":"ff","uid"`},
		"no address":           {`"local_addr":"127.0.0.1"`, `"local_addr":""`},
		"an address's zone":    {`"local_addr":"127.0.0.1"`, `"local_addr":"fe80::1%a"`},
		"an event of its own":  {`"event":"transition"`, `"event":"raw"`},
		"an event of nobody's": {`"event":"transition"`, `"event":"stat"`},
	} {
		bad := strings.Replace(good, c.old, c.new, 1)
		if bad == good {
			t.Fatalf("%s: no %s in %s", name, c.old, good)
		}
		if value, err := Read([]byte(bad)); err == nil {
			t.Errorf("%s: %s became %+v", name, bad, value)
		}
	}
	totals := `{"event":"totals","live":{},"edges":[],"ends":[],"roles":[],"durations":[],"handshakes":{"total_ns":0,"max_ns":0,"buckets":[]},"sessions":[],"rearms":0,"ungrouped":0,"gone":{}}`
	if _, err := Read([]byte(totals)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new string }{
		"no edges":              {`"edges":[],`, ``},
		"no live":               {`"live":{},`, ``},
		"no roles":              {`"roles":[],`, ``},
		"no sessions":           {`"sessions":[],`, ``},
		"no handshakes":         {`"handshakes":{"total_ns":0,"max_ns":0,"buckets":[]},`, ``},
		"null alive":            {`"live":{}`, `"live":{"LISTEN":null}`},
		"an edge twice":         {`"edges":[]`, `"edges":[{"from":"LISTEN","to":"CLOSED","count":1},{"from":"LISTEN","to":"CLOSED","count":1}]`},
		"an edge twice, a role": {`"roles":[]`, `"roles":[{"role":"client","edges":[{"from":"LISTEN","to":"CLOSED","count":1},{"from":"LISTEN","to":"CLOSED","count":1}],"ends":[]}]`},
		"an end twice, a role":  {`"roles":[]`, `"roles":[{"role":"client","edges":[],"ends":[{"state":"LISTEN","reason":"closed","count":1},{"state":"LISTEN","reason":"closed","count":1}]}]`},
		"no such role":          {`"roles":[]`, `"roles":[{"role":"peer","edges":[],"ends":[]}]`},
		"no ends of a role":     {`"roles":[]`, `"roles":[{"role":"client","edges":[]}]`},
		"no buckets":            {`"durations":[]`, `"durations":[{"state":"LISTEN","total_ns":1,"max_ns":1}]`},
		"no state":              {`"durations":[]`, `"durations":[{"total_ns":1,"max_ns":1,"buckets":[]}]`},
		"sessions of nobody":    {`"sessions":[]`, `"sessions":[{"total_ns":1,"max_ns":1,"buckets":[]}]`},
		"sessions twice":        {`"sessions":[]`, `"sessions":[{"role":"client","total_ns":1,"max_ns":1,"buckets":[]},{"role":"client","total_ns":1,"max_ns":1,"buckets":[]}]`},
		"no such bucket":        {`"durations":[]`, `"durations":[{"state":"LISTEN","total_ns":1,"max_ns":1,"buckets":[{"from_ns":1,"to_ns":2,"count":1}]}]`},
	} {
		bad := strings.Replace(totals, c.old, c.new, 1)
		if value, err := Read([]byte(bad)); bad == totals || err == nil {
			t.Errorf("%s: %s became %+v", name, bad, value)
		}
	}
	for name, line := range map[string]string{
		"null lost":     `{"event":"summary","seen":1,"filtered":0,"delivered":1,"lost":{"ring_full":null,"map_full":0,"missed":0,"unwind":0},"hooks":"fentry"}`,
		"one lost less": `{"event":"summary","seen":1,"filtered":0,"delivered":1,"lost":{"map_full":0,"missed":0,"unwind":0},"hooks":"fentry"}`,
		"no task":       `{"time":"2026-11-22T10:24:01Z","ktime_ns":1,"event":"raw","hook":"timer_start","cpu":0,"cookie":1,"netns":1,"netns_cookie":1,"local_addr":"::","local_port":null,"remote_addr":"::","remote_port":0,"from":"LISTEN","to":"CLOSED","err":0}`,
	} {
		if value, err := Read([]byte(line)); err == nil {
			t.Errorf("%s: became %+v", name, value)
		}
	}
	var bad tracer.Totals
	bad.Ends[tracer.Listen][len(bad.Ends[0])-1] = 1
	if err := NewWriter(new(bytes.Buffer)).Totals(&bad); err == nil {
		t.Error("an end for a reason without a word was written")
	}
	var unknown *UnknownError
	if _, err := Read([]byte(`{"event":"connection"}`)); !errors.As(err, &unknown) || unknown.Event != "connection" {
		t.Errorf("%v", err)
	}
	// A field of a later version does no harm.
	if _, err := Read([]byte(strings.Replace(good, `"cookie"`, `"detail":"","cookie"`, 1))); err != nil {
		t.Error(err)
	}
}

// Whatever is read can be written, and is then read as the same.
func FuzzRead(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		f.Add(write(f, aTransition(r)))
		f.Add(write(f, aSegment(r)))
		f.Add(write(f, aRaw(r)))
		f.Add(write(f, aSummary(r)))
		f.Add(write(f, someTotals(r)))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		value, err := Read(line)
		if err != nil {
			return
		}
		readBack(t, value)
	})
}

func BenchmarkRead(b *testing.B) {
	tr := sample()
	line := write(b, &tr)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Read(line); err != nil {
			b.Fatal(err)
		}
	}
}
