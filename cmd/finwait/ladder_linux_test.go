package main

import (
	"bufio"
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"finwait/tracer"
)

// What is told late is drawn in its place, and nothing before it is released.
func TestLadderOrder(t *testing.T) {
	client, server := netip.MustParseAddrPort("127.0.0.1:40000"), netip.MustParseAddrPort("127.0.0.1:80")
	nowhere := netip.AddrPortFrom(client.Addr(), 0)
	const ms = time.Millisecond
	transitions := []tracer.Transition{
		{Ktime: 1 * ms, Cookie: 1, Role: tracer.RoleClient, Local: nowhere, Remote: server, From: tracer.Closed, To: tracer.SynSent},
		{Ktime: 3 * ms, Cookie: 2, Role: tracer.RoleServer, Local: server, Remote: client, From: tracer.Listen, To: tracer.SynRecv},
		{Ktime: 2 * ms, Cookie: 1, Role: tracer.RoleClient, Local: client, Remote: server, From: tracer.SynSent, To: tracer.Established, Duration: ms, Precision: tracer.PrecisionExact},
		{Ktime: 70 * time.Second, Cookie: 1, Role: tracer.RoleClient, Local: client, Remote: server, From: tracer.TimeWait, To: tracer.Closed,
			Duration: 61 * time.Second, Precision: tracer.PrecisionJiffy, Reason: tracer.ReasonExpired, Rearms: 2},
	}
	var out bytes.Buffer
	l := newLadder(bufio.NewWriter(&out), false)
	for i := range transitions {
		if err := l.transition(&transitions[i]); err != nil {
			t.Fatal(err)
		}
	}
	l.note(0, "it begins")
	if err := l.release(3 * ms); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "expired") {
		t.Errorf("what comes later was drawn:\n%s", &out)
	}
	if err := l.release(1<<63 - 1); err != nil {
		t.Fatal(err)
	}
	want := `   SECONDS CLIENT                      SEGMENT                      SERVER
  0.000000 # it begins
           -- 127.0.0.1:40000 to 127.0.0.1:80
  0.001000 SYN_SENT                    ── SYN ──────>
  0.002000 ESTABLISHED after 1.000ms   <── SYN+ACK ──
  0.003000 ESTABLISHED                               ── ACK ──────> SYN_RECV
 70.000000 CLOSED      after ~61.000s  expired, re-armed 2 times    SYN_RECV
`
	if out.String() != want {
		t.Errorf("drawn:\n%s\nwant:\n%s", &out, want)
	}
}

// connect() enters SYN_SENT before it looks for a port: if there is none, no SYN was sent.
func TestLadderNoPort(t *testing.T) {
	server := netip.MustParseAddrPort("127.0.0.1:80")
	nowhere := netip.AddrPortFrom(server.Addr(), 0)
	var out bytes.Buffer
	l := newLadder(bufio.NewWriter(&out), false)
	for i, tr := range []tracer.Transition{
		{Cookie: 1, From: tracer.Closed, To: tracer.SynSent},
		{Cookie: 1, From: tracer.SynSent, To: tracer.Closed, Reason: tracer.ReasonNoPort},
		{Cookie: 2, From: tracer.Closed, To: tracer.SynSent},
		{Cookie: 2, From: tracer.SynSent, To: tracer.Closed, Reason: tracer.ReasonTimedOut},
	} {
		tr.Ktime, tr.Role, tr.Local, tr.Remote = time.Duration(i)*time.Millisecond, tracer.RoleClient, nowhere, server
		if err := l.transition(&tr); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.release(time.Second); err != nil {
		t.Fatal(err)
	}
	want := `   SECONDS CLIENT                      SEGMENT                      SERVER
           -- 127.0.0.1:* to 127.0.0.1:80
  0.000000 SYN_SENT
  0.001000 CLOSED                      no_port
  0.002000 SYN_SENT                    ── SYN ──────>
  0.003000 CLOSED                      timed_out
`
	if out.String() != want {
		t.Errorf("drawn:\n%s\nwant:\n%s", &out, want)
	}
}

func TestWrap(t *testing.T) {
	var out bytes.Buffer
	w := bufio.NewWriter(&out)
	wrap(w, "four words of text ────────── on", 10)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if want := "four words\nof text\n──────────\non\n"; out.String() != want {
		t.Errorf("%q, want %q", &out, want)
	}
}
