package main

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"finwait/internal/ktime"
	"finwait/internal/sandbox"
)

// In a time namespace CLOCK_MONOTONIC is another than the kernel's; what is shown is not bent by it.
func TestTraceInATimeNamespace(t *testing.T) {
	t.Parallel()
	ns := sandbox.New(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--time", "--fork", "--kill-child", "--monotonic", "1000000", self,
		"trace", "--count", "3", "--output", "json", "--netns", pathOf(ns))
	cmd.Env = append(os.Environ(), asFinwait+"=1")
	began, wall := ktime.Now()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { connect(ns, stop); close(stopped) }()
	out, err := cmd.Output()
	close(stop)
	<-stopped
	ended, _ := ktime.Now()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	lines := decodeLines(t, out)
	if len(lines) != 4 {
		t.Fatalf("%d lines, want 3 transitions and the summary:\n%s", len(lines), out)
	}
	for _, l := range lines[:3] {
		at, err := time.Parse(time.RFC3339Nano, l["time"].(string))
		if err != nil {
			t.Fatal(err)
		}
		if k := int64(l["ktime_ns"].(float64)); k < began || k > ended {
			t.Errorf("ktime_ns %d, it was from %d to %d", k, began, ended)
		}
		// The machine's clock may be set, or slewed, meanwhile: not by as much as the namespace's offset.
		if off := at.Sub(time.Unix(0, wall)); off < -time.Hour || off > time.Hour {
			t.Errorf("dated %v, which is off by %v", at, off)
		}
	}
}
