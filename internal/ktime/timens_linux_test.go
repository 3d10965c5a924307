package ktime

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

const inNamespace = "FINWAIT_TEST_PRINT_CLOCKS"

func TestMain(m *testing.M) {
	if os.Getenv(inNamespace) == "" {
		os.Exit(m.Run())
	}
	monotonic, wall := Now()
	fmt.Println(monotonic, wall, read(1), Check())
}

// Now reads the kernel's CLOCK_MONOTONIC even in a time namespace, where the process reads another.
func TestNowInATimeNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root may make a time namespace")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, offset := range []string{"86400", "-100"} {
		if own, _ := Now(); offset[0] == '-' && own < int64(200*time.Second) {
			t.Log("the machine is too young for a clock that runs 100 s behind")
			continue
		}
		cmd := exec.Command("unshare", "--time", "--fork", "--monotonic", offset, self)
		cmd.Env = append(os.Environ(), inNamespace+"=1")
		before, wallBefore := Now()
		out, err := cmd.Output()
		after, wallAfter := Now()
		if err != nil {
			t.Fatalf("%v: %v", cmd, err)
		}
		var (
			monotonic, wall, shifted int64
			failed                   string
		)
		if _, err := fmt.Sscan(string(out), &monotonic, &wall, &shifted, &failed); err != nil || failed != "<nil>" {
			t.Fatalf("it says %q (%v)", out, err)
		}
		if monotonic < before || monotonic > after || wall < wallBefore || wall > wallAfter {
			t.Errorf("offset %s s: Now is %d, %d; here it was from %d, %d to %d, %d",
				offset, monotonic, wall, before, wallBefore, after, wallAfter)
		}
		if shifted >= before && shifted <= after {
			t.Errorf("offset %s s: CLOCK_MONOTONIC is not shifted: the namespace is none", offset)
		}
	}
}

func TestParseOffset(t *testing.T) {
	got, err := parseOffset("monotonic       86400         7\nboottime           -3         0\n")
	if want := int64(86400*time.Second + 7); err != nil || got != want {
		t.Errorf("%d, %v, want %d", got, err, want)
	}
	if got, err = parseOffset("monotonic  -3  500000000\n"); err != nil || got != -2500000000 {
		t.Errorf("%d, %v, want -2500000000", got, err)
	}
	for _, bad := range []string{"", "boottime 1 0", "monotonic", "monotonic x y"} {
		if _, err := parseOffset(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
