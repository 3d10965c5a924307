package tracer

import "iter"

// Stats says where every transition went. Seen = Filtered + Delivered + Lost.Total().
type Stats struct {
	Seen      uint64
	Filtered  uint64 // not asked for
	Delivered uint64 // put into a ring buffer for Run
	Lost      Lost

	Segments SegmentAccounts // with Config.RST or Config.Handshakes; they are no transitions
}

// Lost counts the transitions that never reached Run, by cause.
type Lost struct {
	RingFull uint64 // the reader did not keep up
	MapFull  uint64 // there was no memory or no room for the record of the socket
	Missed   uint64 // no program was run for it, whatever the cause: at least so many, as not every one can be found out
	Unwind   uint64 // a minisock's timer was cancelled, and the kernel gave no stack that says why
}

// Loss is a cause for which a transition is lost. Each is a field of Lost, which says what it means.
type Loss uint8

// The causes.
const (
	LossRingFull Loss = iota
	LossMapFull
	LossMissed
	LossUnwind
)

// causes has the field and the word of each cause. Whatever counts, shows or reads
// losses by cause goes by this list.
var causes = [...]struct {
	word  string
	field func(*Lost) *uint64
}{
	LossRingFull: {"ring_full", func(l *Lost) *uint64 { return &l.RingFull }},
	LossMapFull:  {"map_full", func(l *Lost) *uint64 { return &l.MapFull }},
	LossMissed:   {"missed", func(l *Lost) *uint64 { return &l.Missed }},
	LossUnwind:   {"unwind", func(l *Lost) *uint64 { return &l.Unwind }},
}

var losses = vocabulary[Loss]{
	words: func() (words []string) {
		for _, c := range causes {
			words = append(words, c.word)
		}
		return words
	}(),
	unknown: "no cause of a loss is called %q: there are %s", between: ", ", last: " and ",
}

// Losses lists all causes.
func Losses() []Loss { return losses.all() }

// String gives the word, such as "ring_full".
func (l Loss) String() string { return losses.word(l) }

// MarshalText gives the word that String gives. It fails for a number that is no cause.
func (l Loss) MarshalText() ([]byte, error) { return losses.marshal(l) }

// UnmarshalText takes the words that MarshalText gives.
func (l *Loss) UnmarshalText(word []byte) error { return losses.unmarshal(l, word) }

// All gives every cause with what was lost for it, also where that is 0.
func (l Lost) All() iter.Seq2[Loss, uint64] {
	return func(yield func(Loss, uint64) bool) {
		for i, c := range causes {
			if !yield(Loss(i), *c.field(&l)) {
				return
			}
		}
	}
}

// Add counts n more as lost for a cause. It panics if there is no such cause.
func (l *Lost) Add(cause Loss, n uint64) { *causes[cause].field(l) += n }

// Total is the sum over all causes.
func (l Lost) Total() (sum uint64) {
	for _, n := range l.All() {
		sum += n
	}
	return sum
}

// Sub takes before away, earlier losses of the same Tracer. A skipped run counts as lost
// until another program has taken it over, so a number can fall: that counts as 0.
func (l Lost) Sub(before Lost) (since Lost) {
	for _, c := range causes {
		now, then := *c.field(&l), *c.field(&before)
		*c.field(&since) = now - min(now, then)
	}
	return since
}

// Raise makes each number as large as the same one of o, at least: of losses that were read one after
// the other the largest.
func (l *Lost) Raise(o Lost) {
	for _, c := range causes {
		*c.field(l) = max(*c.field(l), *c.field(&o))
	}
}

// account makes Stats of what the programs counted on each CPU, and of the runs that
// the kernel skipped: of set_state, and of the programs that see a minisock's birth and end.
func account(perCPU []bpfAccount, skipped, births, ends uint64) Stats {
	var sum bpfAccount
	for _, a := range perCPU {
		sum.Seen += a.Seen
		sum.Filtered += a.Filtered
		sum.Delivered += a.Delivered
		sum.RingFull += a.RingFull
		sum.MapFull += a.MapFull
		sum.Rescued += a.Rescued
		sum.BirthsRescued += a.BirthsRescued
		sum.Missed += a.Missed
		sum.UnwindFailed += a.UnwindFailed
	}
	st := Stats{
		Seen: sum.Seen, Filtered: sum.Filtered, Delivered: sum.Delivered,
		Lost: Lost{RingFull: sum.RingFull, MapFull: sum.MapFull, Missed: sum.Missed, Unwind: sum.UnwindFailed},
	}
	// There are two counts of missed transitions: the runs that the kernel skipped, and
	// what a later transition, or a sweep, showed to be missing. They mostly overlap: the
	// larger number is closer to the truth.
	skipped -= min(sum.Rescued, skipped)
	skipped += ends + births - min(sum.BirthsRescued, births)
	if skipped > sum.Missed {
		st.Lost.Missed = skipped
		st.Seen += skipped - sum.Missed
	}
	return st
}
