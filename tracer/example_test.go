package tracer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"finwait/tracer"
)

// Every transition of the connections of one port, as it happens.
func Example() {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer listener.Close()
	port := uint16(listener.Addr().(*net.TCPAddr).Port)

	t, err := tracer.New(tracer.Config{Filter: tracer.Filter{RemotePorts: []tracer.PortRange{tracer.Port(port)}}})
	var missing *tracer.PermissionError
	if errors.As(err, &missing) {
		fmt.Println("this needs more rights:", missing.Missing)
		return
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	defer t.Close()

	// From New on transitions are kept for Run.
	conn, err := net.Dial("tcp4", listener.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = t.Run(ctx, func(tr *tracer.Transition) error {
		fmt.Println(tr.From, "->", tr.To, tr.Role)
		if tr.To == tracer.Established {
			cancel()
		}
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	// It prints:
	//   CLOSED -> SYN_SENT client
	//   SYN_SENT -> ESTABLISHED client
}

// Totals are counted in the kernel; there need be no stream.
func ExampleTracer_Totals() {
	t, err := tracer.New(tracer.Config{TotalsOnly: true, Filter: tracer.Filter{Ports: []tracer.PortRange{tracer.Port(443)}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer t.Close()
	before, err := t.Totals()
	if err != nil {
		fmt.Println(err)
		return
	}
	time.Sleep(10 * time.Second)
	since, err := t.Totals()
	if err != nil {
		fmt.Println(err)
		return
	}
	since.Sub(before)
	waits := since.State(tracer.TimeWait)
	fmt.Println(waits.Entered, "connections came into TIME_WAIT;", waits.Live, "are in it")
	if median, ok := waits.Durations.Quantile(0.5); ok {
		fmt.Println("half of those that ended took no longer than", median)
	}
}

// A stream, such as one that was written down, has totals too.
func ExampleTotals_Add() {
	var totals tracer.Totals
	for _, t := range []tracer.Transition{
		{From: tracer.FinWait2, To: tracer.TimeWait, Duration: 3 * time.Millisecond, Precision: tracer.PrecisionExact},
		{From: tracer.TimeWait, To: tracer.Closed, Duration: 61 * time.Second, Precision: tracer.PrecisionExact, Reason: tracer.ReasonExpired},
	} {
		totals.Add(&t)
	}
	waits := totals.State(tracer.TimeWait)
	fmt.Println(waits.Entered, "entered,", waits.Left, "left,", totals.Ends[tracer.TimeWait][tracer.ReasonExpired], "expired")
	for b := range waits.Durations.Buckets() {
		fmt.Printf("%d from %.1f s to %.1f s\n", b.Count, b.Low.Seconds(), b.High.Seconds())
	}
	// Output:
	// 1 entered, 1 left, 1 expired
	// 1 from 60.1 s to 61.2 s
}

// A filter that can never match is an error before anything is loaded.
func ExampleFilter_Check() {
	for _, f := range []tracer.Filter{
		{Ports: []tracer.PortRange{tracer.Port(443)}, From: []tracer.State{tracer.TimeWait}, MinDuration: time.Minute},
		{From: []tracer.State{tracer.TimeWait}, To: []tracer.State{tracer.Established}},
	} {
		fmt.Println(f.Check())
	}
	// Output:
	// <nil>
	// this filter can never match: TCP never goes from TIME_WAIT to ESTABLISHED
}

// A state is read in every usual spelling, and written in one.
func ExampleState_UnmarshalText() {
	var states []tracer.State
	if err := json.Unmarshal([]byte(`["fin-wait-1", "ESTAB", "SYN_RCVD", "TCP_CLOSE"]`), &states); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(states)
	// Output: [FIN_WAIT_1 ESTABLISHED SYN_RECV CLOSED]
}
