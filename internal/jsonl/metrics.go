package jsonl

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"finwait/tracer"
)

// Fields says which metrics of a connection are shown.
type Fields uint8

// fieldWords are the words of --fields, by bit.
var fieldWords = []string{"bytes", "rtt", "retransmits", "cwnd", "mss", "queues", "silence"}

// FieldWords lists what can be shown.
func FieldWords() []string { return fieldWords }

// Add adds the fields of a word.
func (f *Fields) Add(word string) error {
	for i, w := range fieldWords {
		if w == word {
			*f |= 1 << i
			return nil
		}
	}
	return fmt.Errorf("there are no fields %q: there are %s", word, strings.Join(fieldWords, ", "))
}

// A Metric is one value of Metrics, as it is written.
type Metric struct {
	Name  string // in JSON
	Short string // in text
	of    int    // bit of Fields
	value func(*tracer.Metrics) (n uint64, known bool)
}

// Metrics lists the values.
var Metrics = []Metric{
	{"bytes_sent", "sent", 0, func(m *tracer.Metrics) (uint64, bool) { return m.BytesSent, m.Known }},
	{"bytes_received", "received", 0, func(m *tracer.Metrics) (uint64, bool) { return m.BytesReceived, m.Known }},
	{"rtt_ns", "rtt", 1, func(m *tracer.Metrics) (uint64, bool) { return uint64(m.RTT), m.Known && m.RTT > 0 }},
	{"retransmitted", "retransmitted", 2, func(m *tracer.Metrics) (uint64, bool) { return uint64(m.Retransmitted), m.Known }},
	{"cwnd", "cwnd", 3, func(m *tracer.Metrics) (uint64, bool) { return uint64(m.Cwnd), m.Known }},
	{"mss", "mss", 4, func(m *tracer.Metrics) (uint64, bool) { return uint64(m.MSS), m.Known }},
	{"recv_q", "recvq", 5, func(m *tracer.Metrics) (uint64, bool) { return uint64(m.RecvQueue), m.Known }},
	{"send_q", "sendq", 5, func(m *tracer.Metrics) (uint64, bool) { return uint64(m.SendQueue), m.Known }},
	{"silence_ns", "silence", 6, func(m *tracer.Metrics) (uint64, bool) { return uint64(m.Silence), m.Known && m.Silence >= 0 }},
}

// Of gives the value; known: there is one. asked: it is among these fields.
func (m *Metric) Of(from *tracer.Metrics, f Fields) (n uint64, known, asked bool) {
	n, known = m.value(from)
	return n, known, f&(1<<m.of) != 0
}

// appendMetrics appends the fields that were asked for.
func appendMetrics(b []byte, from *tracer.Metrics, f Fields) []byte {
	if from == nil {
		return b
	}
	for i := range Metrics {
		m := &Metrics[i]
		n, known, asked := m.Of(from, f)
		if !asked {
			continue
		}
		b = append(append(append(b, `,"`...), m.Name...), `":`...)
		if known {
			b = strconv.AppendUint(b, n, 10)
		} else {
			b = append(b, null...)
		}
	}
	return b
}

// metrics is what appendMetrics writes. Each may be missing, if nobody asked for it.
type metrics struct {
	Sent          nullable[uint64] `json:"bytes_sent"`
	Received      nullable[uint64] `json:"bytes_received"`
	RTT           nullable[int64]  `json:"rtt_ns"`
	Retransmitted nullable[uint32] `json:"retransmitted"`
	Cwnd          nullable[uint32] `json:"cwnd"`
	MSS           nullable[uint32] `json:"mss"`
	RecvQ         nullable[uint32] `json:"recv_q"`
	SendQ         nullable[uint32] `json:"send_q"`
	Silence       nullable[int64]  `json:"silence_ns"`
}

// tracer gives nil if nobody asked for metrics.
func (in *metrics) tracer() (*tracer.Metrics, error) {
	var m tracer.Metrics
	there, known := 0, 0
	take(in.Sent, &m.BytesSent, &there, &known)
	take(in.Received, &m.BytesReceived, &there, &known)
	take(in.Retransmitted, &m.Retransmitted, &there, &known)
	take(in.Cwnd, &m.Cwnd, &there, &known)
	take(in.MSS, &m.MSS, &there, &known)
	take(in.RecvQ, &m.RecvQueue, &there, &known)
	take(in.SendQ, &m.SendQueue, &there, &known)
	if known != 0 && known != there {
		return nil, errors.New("some metrics are null, and others are not")
	}
	m.Known = known > 0
	if in.RTT.value != nil {
		if *in.RTT.value <= 0 || known != there {
			return nil, errors.New("rtt_ns does not go with the other metrics, or is not positive")
		}
		m.RTT, m.Known = time.Duration(*in.RTT.value), true
	}
	switch {
	case in.Silence.value != nil:
		if *in.Silence.value < 0 || known != there {
			return nil, errors.New("silence_ns does not go with the other metrics, or is negative")
		}
		m.Silence, m.Known = time.Duration(*in.Silence.value), true
	case in.Silence.set && m.Known:
		m.Silence = -1
	}
	if there == 0 && !in.RTT.set && !in.Silence.set {
		return nil, nil
	}
	return &m, nil
}

// take reads a value, and counts whether it is there, and known.
func take[T any](from nullable[T], to *T, there, known *int) {
	if from.set {
		*there++
	}
	if from.value != nil {
		*known++
		*to = *from.value
	}
}
