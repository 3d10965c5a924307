package main

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"finwait/internal/sandbox"
)

// The limit of orphans is that of the whole host, so this is tried only on a machine of the test's own:
// the kernels in QEMU.
func TestDoctorOrphans(t *testing.T) {
	if os.Getenv("FINWAIT_OWN_MACHINE") == "" {
		t.Skip("it sets net.ipv4.tcp_max_orphans of the host")
	}
	const sysctl = "/proc/sys/net/ipv4/tcp_max_orphans"
	before, err := os.ReadFile(sysctl)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(sysctl, before, 0); err != nil {
			t.Error(err)
		}
	})
	ns := sandbox.New(t)
	orphans := func(n int) {
		for _, s := range connected(ns, 0, n).servers {
			s.Fill() // and nobody reads
			s.Close()
		}
	}
	counted := func() float64 { return float64(ns.Counter("sockstat.TCP.orphan")) }
	finding := func(stdout []byte) (severity string, evidence map[string]any) {
		for _, l := range decodeLines(t, stdout) {
			if l["event"] == "finding" {
				return l["severity"].(string), l["evidence"].(map[string]any)
			}
		}
		return "", nil
	}
	// Other tests may have left orphans. They go in time, and no more come.
	orphans(1)
	limit := 4 * (int(counted()) + 1)
	if err := os.WriteFile(sysctl, []byte(strconv.Itoa(limit)), 0); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for range limit / 2 {
		most := counted()
		var stdout, stderr bytes.Buffer
		if code := run([]string{"doctor", "--json", "--snapshot", "--only", "orphans-near-limit", "--root", t.TempDir()}, &stdout, &stderr); code != exitOK {
			t.Fatalf("exit code %d: %s", code, &stderr)
		}
		got, evidence := finding(stdout.Bytes())
		if least := counted(); least == most { // else it is not known which number it saw
			want := ""
			switch {
			case 2*int(least) >= limit:
				want = "will_fail"
			case 4*int(least) >= limit:
				want = "risk"
			}
			if got != want || got != "" && (evidence["orphans"] != least || evidence["limit"] != float64(limit)) {
				t.Errorf("%v orphans of %d: %q %v, want %q", least, limit, got, evidence, want)
			}
			seen[got] = true
		}
		orphans(1)
	}
	if !seen[""] || !seen["risk"] {
		t.Errorf("seen: %v", seen)
	}

	// Above the limit close() sends an RST (tcp_check_oom(), net/ipv4/tcp.c). The kernel adds its orphans
	// up every 100 ms (tcp_orphan_update()).
	p := startFinwait(t, "doctor", "--for", "1h", "--json", "--only", "orphans-near-limit", "--root", t.TempDir(), "--netns", pathOf(ns), "--netns", "/proc/1/ns/net")
	p.awaitSaid(t, "Ctrl-C")
	abortedBefore := ns.Counter("TcpExt.TCPAbortOnMemory")
	aborted := 0.0
	for range 20 * limit {
		orphans(1)
		if aborted = float64(ns.Counter("TcpExt.TCPAbortOnMemory") - abortedBefore); aborted > 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err := p.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Fatalf("%v: %s", err, p.said())
	}
	if got, evidence := finding(p.stdout.Bytes()); aborted == 0 || got != "failing" || evidence["aborted"].(float64) < aborted {
		t.Errorf("the kernel aborted %v: %q %v", aborted, got, evidence)
	}
}
