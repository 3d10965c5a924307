package tracer

import "time"

// Metrics are what a connection has carried, and how well, as the kernel's socket had it
// at a transition (tcp_info of tcp(7) has the same).
type Metrics struct {
	// Known: the values are. Of a minisock only the last transition has some: those that
	// its full socket had when it handed over. A transition that is told late has none.
	Known bool

	BytesSent     uint64        // payload, each byte once, acknowledged or not
	BytesReceived uint64        // payload
	RTT           time.Duration // round-trip time, smoothed; 0: not measured
	Retransmitted uint32        // segments
	Cwnd          uint32        // congestion window, in segments
	MSS           uint32        // payload of a full segment, in bytes
	RecvQueue     uint32        // bytes that the program has not read
	SendQueue     uint32        // bytes that the peer has not acknowledged, a FIN among them

	// Silence is the time since a segment arrived last that acknowledges all that was acknowledged
	// before, or more, to a jiffy (last_ack_recv). Data and keepalive probes are answered with one,
	// and the peer's data carries one; an RST does not count. Below 0: none has arrived.
	Silence time.Duration
}

// neverHeard is NEVER_HEARD of event.h.
const neverHeard = 0xffffffff

func (m *Metrics) set(from *bpfMetrics) {
	*m = Metrics{}
	if from.Known == 0 {
		return
	}
	silence := time.Duration(from.SilentMs) * time.Millisecond
	if from.SilentMs == neverHeard {
		silence = -1
	}
	*m = Metrics{
		Known: true, Silence: silence, BytesSent: from.BytesSent, BytesReceived: from.BytesReceived,
		RTT:           time.Duration(from.RttUs) * time.Microsecond / 8, // srtt_us
		Retransmitted: from.Retransmitted, Cwnd: from.Cwnd, MSS: from.Mss, RecvQueue: from.RecvQueue, SendQueue: from.SendQueue,
	}
}
