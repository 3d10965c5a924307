package tracer_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"time"

	"finwait/tracer"
)

// Print every TIME_WAIT that ends, and how long it lasted, until Ctrl-C.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	t, err := tracer.New(tracer.Config{Filter: tracer.Filter{From: []tracer.State{tracer.TimeWait}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer t.Close()

	err = t.Run(ctx, func(tr *tracer.Transition) error {
		if tr.Known() {
			fmt.Println(tr.Local, tr.Remote, tr.Duration, tr.Precision, tr.Reason)
		}
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	if stats, err := t.Stats(); err == nil && stats.Lost.Total() > 0 {
		fmt.Println("lost:", stats.Lost.Total())
	}
}

// Count in the kernel for ten seconds, without a stream.
func ExampleTracer_Totals() {
	t, err := tracer.New(tracer.Config{TotalsOnly: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer t.Close()

	time.Sleep(10 * time.Second)
	totals, err := t.Totals()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, state := range tracer.States() {
		st := totals.State(state)
		if median, ok := st.Durations.Quantile(0.5); ok {
			fmt.Println(state, "entered", st.Entered, "left", st.Left, "half of them within", median)
		}
		for b := range st.Durations.Buckets() {
			fmt.Println("  ", b.Low, "to", b.High, b.Count)
		}
	}
}

// A Filter picks connections, and single transitions, in the kernel. Check says
// what is wrong with one without the kernel.
func ExampleFilter() {
	f := tracer.Filter{
		Ports: []uint16{80, 443},                                   // OR
		Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, // AND
		To:    []tracer.State{tracer.CloseWait},
	}
	fmt.Println(f.Check())

	f.From = []tracer.State{tracer.TimeWait}
	err := f.Check()
	var never *tracer.FilterError
	fmt.Println(errors.As(err, &never), err)
	// Output:
	// <nil>
	// true this filter can never match: TCP never goes from TIME_WAIT to CLOSE_WAIT
}

// Totals can be made of transitions, too: those of a recording, or of a part.
func ExampleTotals_Add() {
	var totals tracer.Totals
	for _, tr := range []tracer.Transition{
		{From: tracer.FinWait2, To: tracer.TimeWait, Duration: 43 * time.Millisecond, Precision: tracer.PrecisionExact},
		{From: tracer.TimeWait, To: tracer.Closed, Duration: 61 * time.Second, Precision: tracer.PrecisionExact, Reason: tracer.ReasonExpired},
	} {
		totals.Add(&tr)
	}
	st := totals.State(tracer.TimeWait)
	fmt.Println(st.Entered, st.Left, st.Durations.Max, totals.Ends[tracer.TimeWait][tracer.ReasonExpired])
	// Output: 1 1 1m1s 1
}
