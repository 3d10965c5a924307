//go:build linux

package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"finwait/internal/privilege"

	"golang.org/x/sys/unix"
)

// asConfined makes this binary a process that confines itself, and then says what it still can.
const asConfined = "FINWAIT_TEST_CONFINE"

// mayConnect is a port that it may connect to.
const mayConnect = "FINWAIT_TEST_CONNECT"

// mayRemove is a directory in which it may remove others.
const mayRemove = "FINWAIT_TEST_REMOVE"

func TestMain(m *testing.M) {
	if how := os.Getenv(asConfined); how != "" {
		os.Exit(confined(how))
	}
	os.Exit(m.Run())
}

func confined(how string) int {
	n := Need{Capabilities: []string{privilege.Kill, "CAP_NOBODY_KNOWS"}, Check: func() error {
		switch {
		case privilege.Has(privilege.BPF):
			return errors.New("checked with CAP_BPF")
		case how == "old":
			return fmt.Errorf("bpf(2): %w", unix.EPERM)
		case how == "broken":
			return unix.EIO
		}
		return nil
	}}
	n.Files = how != "landlock"
	may := os.Getenv(mayRemove)
	if may != "" {
		n.RemoveDirs = []string{may}
	}
	to, _ := strconv.ParseUint(os.Getenv(mayConnect), 10, 16)
	if to != 0 {
		n.ConnectTo = []uint16{uint16(to)}
	}
	landlocked, err := Confine(n)
	fmt.Println("landlocked", landlocked, err)
	if how != "landlock" {
		status, err := os.ReadFile("/proc/thread-self/status")
		fmt.Println(string(status), err)
		return 0
	}
	for _, file := range []string{"/proc/self/status", "/proc/self/exe", "/", os.TempDir()} {
		_, err := os.Open(file)
		fmt.Println("open", errors.Is(err, fs.ErrPermission))
	}
	_, err = os.Create(os.TempDir() + "/finwait-confined")
	fmt.Println("create", errors.Is(err, fs.ErrPermission))
	err = exec.Command("/proc/self/exe").Run()
	fmt.Println("exec", errors.Is(err, fs.ErrPermission))
	_, err = net.Dial("tcp4", "127.0.0.1:9")
	fmt.Println("connect", errors.Is(err, fs.ErrPermission))
	fmt.Println("zone", time.Unix(0, 0).Local().Format("-0700"))
	if to != 0 {
		_, err := net.Dial("tcp4", fmt.Sprint("localhost:", to))
		fmt.Println("connected", err)
		_, err = os.ReadFile("/etc/hosts")
		fmt.Println("read", err)
		_, err = os.OpenFile("/etc/hosts", os.O_WRONLY, 0)
		fmt.Println("write", errors.Is(err, fs.ErrPermission))
	}
	if may != "" {
		fmt.Println("removed", os.Remove(may+"/empty"))
		fmt.Println("made", errors.Is(os.Mkdir(may+"/other", 0o700), fs.ErrPermission))
		fmt.Println("elsewhere", errors.Is(os.Remove(may+"-not/empty"), fs.ErrPermission))
	}
	fmt.Println("written all the same")
	return 0
}

func confine(t *testing.T, how string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test gives capabilities up: run it as root, which has them")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), asConfined+"="+how)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func capabilities(t *testing.T, out string) (caps []string) {
	t.Helper()
	caps = regexp.MustCompile(`(?m)^(?:Cap(?:Prm|Eff)|NoNewPrivs):\t(\w+)$`).FindAllString(out, -1)
	slices.Sort(caps)
	if len(caps) != 3 {
		t.Fatalf("no capabilities in %s", out)
	}
	return caps
}

// Where the kernel wants CAP_BPF of those that read maps, that stays, and nothing else.
func TestCheckDecidesOnBPF(t *testing.T) {
	for how, mask := range map[string]uint64{
		"new": 1 << unix.CAP_KILL,
		"old": 1<<unix.CAP_KILL | 1<<unix.CAP_BPF,
	} {
		out := confine(t, how)
		want := []string{fmt.Sprintf("CapEff:\t%016x", mask), fmt.Sprintf("CapPrm:\t%016x", mask), "NoNewPrivs:\t1"}
		if got := capabilities(t, out); !slices.Equal(got, want) || !strings.Contains(out, "landlocked false <nil>") {
			t.Errorf("%s: %q, want %q; %s", how, got, want, out)
		}
	}
	if out := confine(t, "broken"); !strings.Contains(out, unix.EIO.Error()) {
		t.Errorf("another error of the check is not told: %s", out)
	}
}

// Nothing can be opened any more, read or written; what is open stays so.
func TestLandlock(t *testing.T) {
	out := confine(t, "landlock")
	if !Landlock() {
		if !strings.Contains(out, "landlocked false <nil>") {
			t.Errorf("without Landlock: %s", out)
		}
		t.Skip("this kernel has no Landlock, or it is off")
	}
	if !strings.Contains(out, "landlocked true <nil>") || strings.Count(out, "open true") != 4 ||
		!strings.Contains(out, "create true") || !strings.Contains(out, "exec true") || !strings.Contains(out, "written all the same") {
		t.Error(out)
	}
	// Connections: since ABI 4, Linux 6.7.
	if abi := version(t); abi >= 4 && !strings.Contains(out, "connect true") {
		t.Errorf("Landlock ABI %d: %s", abi, out)
	}
}

// Where directories may be removed, that is all that may be done.
func TestRemoveDirs(t *testing.T) {
	may := t.TempDir() + "/may"
	for _, dir := range []string{may, may + "/empty", may + "-not", may + "-not/empty"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(mayRemove, may)
	out := confine(t, "landlock")
	if !Landlock() {
		t.Skip("this kernel has no Landlock, or it is off")
	}
	if !strings.Contains(out, "removed <nil>\nmade true\nelsewhere true\n") {
		t.Error(out)
	}
}

// Where one port may be connected to, on a host that has a name, that is all that may be done.
func TestConnectTo(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv(mayConnect, fmt.Sprint(l.Addr().(*net.TCPAddr).Port))
	out := confine(t, "landlock")
	if !Landlock() {
		t.Skip("this kernel has no Landlock, or it is off")
	}
	if !strings.Contains(out, "landlocked true <nil>") || strings.Count(out, "open true") != 4 || !strings.Contains(out, "connected <nil>\nread <nil>\nwrite true\n") {
		t.Error(out)
	}
	if abi := version(t); abi >= 4 && !strings.Contains(out, "connect true") {
		t.Errorf("Landlock ABI %d: %s", abi, out)
	}
}

// The time zone is read from a file when it is first asked for, and without one
// it would be UTC, in silence.
func TestTimeZoneIsKept(t *testing.T) {
	const zone = "Asia/Kolkata"
	if _, err := time.LoadLocation(zone); err != nil {
		t.Skipf("no file of a time zone to be read: %v", err)
	}
	t.Setenv("TZ", zone)
	if out := confine(t, "landlock"); !strings.Contains(out, "zone +0530\n") {
		t.Error(out)
	}
}

func version(t *testing.T) int {
	t.Helper()
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, 1) // LANDLOCK_CREATE_RULESET_VERSION
	if errno != 0 {
		t.Fatal(errno)
	}
	return int(abi)
}
