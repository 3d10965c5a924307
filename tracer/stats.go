package tracer

// Stats says where every transition went. Seen = Filtered + Delivered + Lost.Total().
type Stats struct {
	Seen      uint64
	Filtered  uint64 // not asked for
	Delivered uint64 // put into the ring buffer for Run
	Lost      Lost
}

// Lost counts, by cause, what never reached Run.
type Lost struct {
	RingFull  uint64 // the reader did not keep up
	MapFull   uint64 // there was no memory, or no room, to follow the socket
	Recursion uint64 // the kernel ran no program; as far as can be told, so at least that many
	Unwind    uint64 // a minisock's timer was cancelled, and the kernel stack did not tell why
}

// Total is the sum over all causes.
func (l Lost) Total() uint64 { return l.RingFull + l.MapFull + l.Recursion + l.Unwind }

// Sub leaves what was lost after before. A run that was skipped is lost until another
// program has made up for it: what has become less since counts as nothing.
func (l Lost) Sub(before Lost) Lost {
	since := func(now, then uint64) uint64 { return now - min(now, then) }
	return Lost{
		RingFull: since(l.RingFull, before.RingFull), MapFull: since(l.MapFull, before.MapFull),
		Recursion: since(l.Recursion, before.Recursion), Unwind: since(l.Unwind, before.Unwind),
	}
}
