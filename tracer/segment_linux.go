package tracer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"finwait/internal/ktime"

	"github.com/cilium/ebpf"
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
	s.Uncounted += o.Uncounted
}

// SegmentCounts are the segments by peer and the server's port, with Config.RST or
// Config.Handshakes, and not with Config.NoTotals. The largest count is first. There is
// room for 8192; Stats().Segments.Uncounted says how many segments found none.
func (t *Tracer) SegmentCounts() ([]SegmentCount, error) {
	var all []SegmentCount
	err := t.iterate(bpfMapSegmentCounts, func(entries *ebpf.MapIterator) {
		var (
			key   bpfSegmentKey
			count uint64
		)
		for entries.Next(&key, &count) {
			c := SegmentCount{Kind: SegmentKind(key.Kind), Count: count}
			addr := netip.AddrFrom16(key.Remote)
			if key.Family == familyIPv4 {
				addr = netip.AddrFrom4([4]byte(key.Remote[:4]))
			}
			if key.Client != 0 {
				c.Remote = netip.AddrPortFrom(addr, key.Port)
			} else {
				c.Local, c.Remote = key.Port, netip.AddrPortFrom(addr, 0)
			}
			if c.Kind == SegmentRSTSent {
				c.Reason = t.rstReasons[uint64(key.Reason)]
			}
			all = append(all, c)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read counts of segments: %w", err)
	}
	slices.SortFunc(all, func(a, b SegmentCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Local, b.Local), a.Remote.Compare(b.Remote),
			cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Reason, b.Reason))
	})
	return all, nil
}
