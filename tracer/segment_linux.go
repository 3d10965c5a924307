package tracer

import (
	"strings"
	"time"

	"finwait/internal/ktime"

	"github.com/cilium/ebpf/btf"
)

// segment hands an event that is a segment to the one who asked for it.
func (t *Tracer) segment(ev *bpfEvent, clock *ktime.Clock) error {
	s := &t.seg
	*s = Segment{
		Time: clock.Time(ev.TimeNs), Ktime: time.Duration(ev.TimeNs), Kind: SegmentKind(ev.From), Cookie: ev.Cookie,
		NetNS: ev.Tuple.Netns, NetNSCookie: ev.Tuple.NetnsCookie,
		Scope: Scope{ID: ev.Tuple.ScopeId}, Retransmits: ev.Retransmits,
	}
	s.Local, s.Remote = endpoints(ev)
	t.nameScope(&s.Scope, s.NetNSCookie)
	if s.Kind == SegmentRSTSent {
		s.Reason = t.rstReasons[uint64(ev.Reason)]
	}
	return t.cfg.Segment(s)
}

// rstReasons are the kernel's words for why it sends an RST: SK_RST_REASON_NO_SOCKET is
// "no_socket". None before 6.10.
func rstReasons(kernel *btf.Spec) map[uint64]string {
	var reasons *btf.Enum
	if err := kernel.TypeByName("sk_rst_reason", &reasons); err != nil {
		return nil
	}
	words := make(map[uint64]string)
	for _, v := range reasons.Values {
		words[v.Value] = strings.ToLower(strings.TrimPrefix(v.Name, "SK_RST_REASON_"))
	}
	return words
}

func (s *SegmentAccounts) add(o *bpfSegmentAccount) {
	s.Seen += o.Seen
	s.Filtered += o.Filtered
	s.Delivered += o.Delivered
	s.Limited += o.Limited
	s.RingFull += o.RingFull
}
