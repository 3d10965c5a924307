package tracer

// Stats says where every transition went. Seen = Filtered + Delivered + Lost.Total().
type Stats struct {
	Seen      uint64
	Filtered  uint64 // not asked for
	Delivered uint64 // put into the ring buffer for Run
	Lost      Lost
}

// Lost counts the transitions that never reached Run, by cause.
type Lost struct {
	RingFull  uint64 // the reader did not keep up
	MapFull   uint64 // there was no memory or no room for the record of the socket
	Recursion uint64 // the kernel ran no program: at least so many, as not every one can be found out
	Unwind    uint64 // a minisock's timer was cancelled, and the kernel gave no stack that says why
}

// Total is the sum over all causes.
func (l Lost) Total() uint64 { return l.RingFull + l.MapFull + l.Recursion + l.Unwind }

// Sub takes before away, earlier losses of the same Tracer. A skipped run counts as lost
// until another program has taken it over, so a number can fall: that counts as 0.
func (l Lost) Sub(before Lost) Lost {
	since := func(now, then uint64) uint64 { return now - min(now, then) }
	return Lost{
		RingFull: since(l.RingFull, before.RingFull), MapFull: since(l.MapFull, before.MapFull),
		Recursion: since(l.Recursion, before.Recursion), Unwind: since(l.Unwind, before.Unwind),
	}
}
