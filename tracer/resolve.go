package tracer

import (
	"fmt"
	"math"
	"net/netip"
	"time"
	"unsafe"

	"finwait/internal/ktime"
)

const (
	eventSize = int(unsafe.Sizeof(bpfEvent{}))
	wideSize  = int(unsafe.Sizeof(bpfWideEvent{})) // with Config.Handlers, RST, Metrics or Stacks
)

// decode copies one record of a ring buffer into ev.
func decode(sample []byte, ev *bpfWideEvent) error {
	if len(sample) < eventSize {
		return fmt.Errorf("decode event: %d bytes, want %d: the BPF object does not fit this program", len(sample), eventSize)
	}
	n := wideSize
	if len(sample) < n {
		n = eventSize
		ev.Handler, ev.RstBy, ev.Metrics = bpfHandler{}, bpfRstSender{}, bpfMetrics{}
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(ev)), n), sample)
	return nil
}

// resolve makes a transition of an event. It allocates nothing and never fails: for an
// event that makes no sense the transition says unknown.
func resolve(wide *bpfWideEvent, clock *ktime.Clock, t *Transition) {
	ev := &wide.Event
	t.Time = clock.Time(ev.TimeNs)
	t.Ktime = time.Duration(ev.TimeNs)
	t.Cookie = ev.Cookie
	t.NetNS, t.NetNSCookie = ev.Tuple.Netns, ev.Tuple.NetnsCookie
	t.Local, t.Remote = endpoints(ev)
	t.Scope = Scope{ID: ev.Tuple.ScopeId}
	t.From, t.To = State(ev.From), State(ev.To)
	t.Duration, t.Precision = elapsed(ev)
	t.Role = Role(ev.Role)
	t.Owner, t.Closer, t.Handler = Owner{}, Process{}, Process{}
	if ev.Owner.Pid != 0 {
		t.Owner = Owner{Process{ev.Owner.Pid, ev.Owner.Comm}, ev.Owner.Holder != 0, ev.Owner.Uid, ev.Owner.CgroupId}
	}
	if ev.Closer.Pid != 0 {
		t.Closer = Process{PID: ev.Closer.Pid, Comm: ev.Closer.Comm}
	}
	if h := &wide.Handler; h.Pid != 0 {
		t.Handler = Process{PID: h.Pid, Comm: h.Comm}
	}
	t.RSTBy = RSTSender{}
	if by := &wide.RstBy; by.End != 0 {
		t.RSTBy.End = RSTEnd(by.End)
		if by.Pid != 0 {
			t.RSTBy.Process = Process{PID: by.Pid, Comm: by.Comm}
		}
	}
	t.Reason, t.Detail = Reason(ev.Reason), Detail(ev.Detail)
	if t.Reason == ReasonExpired {
		t.Detail = expiredDetail(t.From)
	}
	t.Errno, t.Retransmits = Errno(ev.Err), ev.Retransmits
	t.Rearms = ev.Rearms
	t.Metrics, t.Stack = nil, nil
	t.Source = SourceSocket
	if ev.Flags&uint8(bpfEventFlagsEVENT_MINISOCK) != 0 {
		t.Source = SourceMinisock
	}
	t.PortByBind = ev.Flags&uint8(bpfEventFlagsEVENT_PORT_BY_BIND) != 0
}

// elapsed is the time spent in the state that was left. There is no duration if the
// start is unknown, after the end, further back than a Duration reaches, or has a
// precision that this version does not know.
func elapsed(ev *bpfEvent) (time.Duration, Precision) {
	precision := Precision(ev.Precision)
	if ev.SinceNs == 0 || ev.SinceNs > ev.TimeNs || ev.TimeNs-ev.SinceNs > math.MaxInt64 ||
		precision == PrecisionUnknown || precision >= Precision(bpfPrecisionPRECISION_COUNT) {
		return 0, PrecisionUnknown
	}
	return time.Duration(ev.TimeNs - ev.SinceNs), precision
}

// expiredDetail tells the detail of ReasonExpired, which the kernel side leaves to user space.
func expiredDetail(from State) Detail {
	if from == TimeWait {
		return DetailTimeWait
	}
	return DetailOrphan
}

func endpoints(ev *bpfEvent) (local, remote netip.AddrPort) {
	if ev.Tuple.Family == familyIPv4 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(ev.Tuple.Saddr[:4])), ev.Tuple.Sport),
			netip.AddrPortFrom(netip.AddrFrom4([4]byte(ev.Tuple.Daddr[:4])), ev.Tuple.Dport)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(ev.Tuple.Saddr), ev.Tuple.Sport),
		netip.AddrPortFrom(netip.AddrFrom16(ev.Tuple.Daddr), ev.Tuple.Dport)
}

// resolveRaw describes one firing of a hook.
func resolveRaw(wide *bpfWideEvent, clock *ktime.Clock, r *RawEvent) {
	ev := &wide.Event
	r.Time = clock.Time(ev.TimeNs)
	r.Ktime = time.Duration(ev.TimeNs)
	r.Hook = Hook(ev.Hook)
	r.CPU = ev.Cpu
	r.Task = Process{}
	if ev.Owner.Pid != 0 { // the idle task is nobody
		r.Task = Process{PID: ev.Owner.Pid, Comm: ev.Owner.Comm}
	}
	r.Cookie = ev.Cookie
	r.NetNS, r.NetNSCookie = ev.Tuple.Netns, ev.Tuple.NetnsCookie
	r.Local, r.Remote = endpoints(ev)
	r.Scope = Scope{ID: ev.Tuple.ScopeId}
	r.From, r.To = State(ev.From), State(ev.To)
	r.Err = ev.Err
	r.Minisock = ev.Minisock
	r.TimerLeft = ev.TimerLeft
}
