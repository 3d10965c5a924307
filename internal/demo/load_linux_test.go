package demo

import (
	"bytes"
	"syscall"
	"testing"
	"time"

	"finwait/internal/load"
)

func TestLoadText(t *testing.T) {
	var out bytes.Buffer
	LoadText(&out, &load.Summary{Elapsed: time.Second, Failed: map[error]int{
		syscall.ETIMEDOUT: 2, syscall.ECONNREFUSED: 2, syscall.ENETUNREACH: 3,
	}}, -1)
	want := "made      0 connections in 1 s, 0 a second\nfailed    3: network is unreachable\nfailed    2: connection refused\nfailed    2: connection timed out\n"
	if out.String() != want {
		t.Errorf("%q, want %q", &out, want)
	}
}
