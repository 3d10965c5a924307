package scenario

import "finwait/tracer"

// A Segment is the segment that a socket sent or received when it changed its state.
type Segment struct {
	Name string // SYN, SYN+ACK, ACK, FIN, RST; "": none
	Sent bool   // by the socket itself
}

// SegmentOf returns the segment that goes with a transition (RFC 9293, figure 5). It knows only
// the transition. A FIN that is sent may be lost. A SYN is not sent at all if CLOSED with
// ReasonNoPort or ReasonInUse follows.
func SegmentOf(t *tracer.Transition) Segment {
	if t.To == tracer.Closed {
		return closedBy(t)
	}
	switch t.To {
	case tracer.SynSent:
		return Segment{"SYN", true}
	case tracer.SynRecv:
		// Linux makes the socket when the third segment of the handshake arrives.
		return Segment{"ACK", false}
	case tracer.Established:
		if t.From == tracer.SynSent {
			return Segment{"SYN+ACK", false}
		}
	case tracer.FinWait1, tracer.LastAck:
		return Segment{"FIN", true}
	case tracer.FinWait2:
		return Segment{"ACK", false}
	case tracer.CloseWait, tracer.Closing:
		return Segment{"FIN", false}
	case tracer.TimeWait:
		if t.From == tracer.Closing {
			return Segment{"ACK", false}
		}
		return Segment{"FIN", false}
	}
	return Segment{}
}

func closedBy(t *tracer.Transition) Segment {
	switch t.Reason {
	case tracer.ReasonRefused, tracer.ReasonReset, tracer.ReasonRSTReceived:
		return Segment{"RST", false}
	case tracer.ReasonRSTSent:
		return Segment{"RST", true}
	case tracer.ReasonRecycled:
		return Segment{"SYN", false}
	case tracer.ReasonClosed:
		if t.From == tracer.LastAck {
			return Segment{"ACK", false}
		}
	case tracer.ReasonAborted:
		// tcp_disconnect() sends an RST in these states (tcp_need_reset()).
		switch t.From {
		case tracer.Established, tracer.CloseWait, tracer.FinWait1, tracer.FinWait2, tracer.SynRecv:
			return Segment{"RST", true}
		}
	}
	return Segment{}
}
