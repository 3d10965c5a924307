package label

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"finwait/internal/cgroup"
	"finwait/internal/sandbox"
	"finwait/internal/sockdiag"
	"finwait/internal/test/testnet"
)

// asListener makes this binary a process of that name that holds a listener, until its stdin ends.
const asListener = "FINWAIT_TEST_LISTENER"

func TestMain(m *testing.M) {
	if name := os.Getenv(asListener); name != "" {
		if err := listen(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func listen(name string) error {
	if err := os.WriteFile("/proc/self/comm", []byte(name), 0); err != nil {
		return err
	}
	if _, err := net.Listen("tcp4", "127.0.0.1:0"); err != nil {
		return err
	}
	fmt.Println("listens")
	_, _ = os.Stdin.Read(make([]byte, 1))
	return nil
}

// startListener starts such a process, in a namespace and a cgroup (nil: that of the test).
func startListener(t *testing.T, ns *sandbox.NS, in *os.File, name string) (pid int, end func()) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), asListener+"="+name, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	if in != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(in.Fd())}
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	ns.Start(cmd)
	ended := false
	end = func() {
		if !ended {
			ended = true
			stdin.Close()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(end)
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "listens\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd.Process.Pid, end
}

// cgroupOfSocket is what the kernel says of the only socket in a namespace.
func cgroupOfSocket(t *testing.T, ns *sandbox.NS) (id uint64) {
	t.Helper()
	ns.Try(func() error {
		conn, err := sockdiag.Open()
		if err != nil {
			return err
		}
		defer conn.Close()
		sockets := 0
		err = conn.List(sockdiag.AllStates, func(s *sockdiag.Socket) error {
			id = s.CgroupID
			sockets++
			return nil
		})
		if err == nil && sockets != 1 {
			err = fmt.Errorf("%d sockets", sockets)
		}
		return err
	})
	return id
}

func random(digits int) string {
	var b strings.Builder
	for range digits {
		fmt.Fprintf(&b, "%x", rand.IntN(16))
	}
	return b.String()
}

func randomUID() string {
	return strings.Join([]string{random(8), random(4), random(4), random(4), random(12)}, "-")
}

// inode is the number of a cgroup.
func inode(t *testing.T, f *os.File) uint64 {
	t.Helper()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return st.Sys().(*syscall.Stat_t).Ino
}

// A real socket of a process in a real cgroup has the names of its pod, container and unit, and
// so has its namespace.
func TestSockets(t *testing.T) {
	d := tempDirs(t)
	n := New()
	n.Dirs = d
	for _, c := range []struct{ form, path string }{
		{"cgroupfs", "/kubepods/burstable/podUID/ID"},
		{"cgroupfs, guaranteed", "/kubepods/podUID/ID"},
		{"cgroupfs, static", "/kubepods/podSTATIC/ID"},
		{"systemd, containerd", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_I_D.slice/cri-containerd-ID.scope"},
		{"systemd, CRI-O", "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podU_I_D.slice/crio-ID.scope/container"},
		{"a unit in a container", "/kubepods.slice/kubepods-podU_I_D.slice/cri-containerd-ID.scope/system.slice/nginx.service"},
		{"docker", "/docker/ID"},
		{"docker, systemd", "/system.slice/docker-ID.scope"},
		{"podman", "/libpod_parent/libpod-ID"},
		{"podman, systemd", "/machine.slice/libpod-ID.scope/container"},
		{"podman, rootless", "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container"},
		{"podman, in a unit", `/system.slice/finwait\x2dtest.service/libpod-payload-ID`},
		{"a unit", `/system.slice/finwait\x2dtest@1.service`},
		{"a user's unit", "/user.slice/user-1000.slice/user@1000.service/app.slice/finwait-test.service"},
	} {
		t.Run(c.form, func(t *testing.T) {
			id, uid, static := random(64), randomUID(), random(32)
			path := strings.NewReplacer("UID", uid, "U_I_D", strings.ReplaceAll(uid, "-", "_"), "STATIC", static, "ID", id).Replace(c.path)
			var want Cgroup
			var name string
			switch {
			case strings.Contains(path, static):
				want.PodUID = static
			case strings.Contains(c.form, "cgroupfs"), strings.Contains(path, "kubepods"):
				want.PodUID = uid
			}
			container := "c" + id[:8]
			if strings.Contains(path, id) {
				want.ContainerID, want.Container, name = id, container, container
			}
			switch {
			case want.PodUID != "":
				want.PodNamespace, want.Pod, name = "shop", "p"+want.PodUID[:8], "shop/p"+want.PodUID[:8]
				d.podLogs(t, want.PodNamespace, want.Pod, want.PodUID)
				d.containerLog(t, want.PodNamespace, want.Pod, container, id)
			case strings.Contains(c.form, "rootless"):
				want.Unit = "user@1000.service"
				home := t.TempDir()
				write(t, d.Passwd, "me:x:1000:1000::"+home+":/bin/sh\n")
				storage(t, home, userStorage+"/overlay-containers/containers.json", stored1(id, container))
			case strings.Contains(c.form, "podman"):
				storage(t, d.Podman, "overlay-containers/containers.json", stored1(id, container))
			case want.ContainerID != "":
				d.dockerConfig(t, id, fmt.Sprintf(`{"ID":%q,"Name":"/%s"}`, id, container))
			}
			if parts := strings.Split(path, "/"); strings.HasPrefix(c.form, "a ") && want.PodUID == "" {
				want.Unit = parts[len(parts)-1]
				name = want.Unit
			}
			if c.form == "podman, in a unit" {
				want.Unit = `finwait\x2dtest.service`
			}
			want.Path = path

			in := testnet.Cgroup(t, path)
			ns := sandbox.New(t)
			startListener(t, ns, in, "web")
			socket := cgroupOfSocket(t, ns)
			if socket != inode(t, in) {
				t.Fatalf("the kernel says %d of a socket in cgroup %d", socket, inode(t, in))
			}
			n.walks, n.scans = pace{}, pace{} // do not wait for the next look
			if got, ok := n.Cgroup(socket); !ok || got != want {
				t.Errorf("got  %+v, %v\nwant %+v", got, ok, want)
			}
			if got := n.NetNS(ns.Inode, ns.Cookie); got != name {
				t.Errorf("the namespace is called %q, want %q", got, name)
			}
		})
	}
}

// A clock is what a test sets.
type clock struct{ time.Time }

func (c *clock) after(d time.Duration) { c.Time = c.Add(d) }

// withClock makes a Namer of temporary directories, and its clock.
func withClock(t *testing.T) (*Namer, *clock) {
	n, c := New(), &clock{time.Unix(1e9, 0)}
	n.Dirs, n.now = tempDirs(t), func() time.Time { return c.Time }
	return n, c
}

// A number that is not known makes the tree be read, but not each time; and one that is not
// found seldom.
func TestUnknown(t *testing.T) {
	n, now := withClock(t)
	first := inode(t, testnet.Cgroup(t, "/system.slice/finwait-first.service"))
	if c, ok := n.Cgroup(first); !ok || c.Unit != "finwait-first.service" {
		t.Errorf("%+v, %v", c, ok)
	}
	in := testnet.Cgroup(t, "/system.slice/finwait-second.service")
	second := inode(t, in)
	for range 1000 {
		now.after(rest/1000 - 1)
		if c, ok := n.Cgroup(second); ok || c != (Cgroup{}) {
			t.Fatalf("the tree was read again at once: %+v", c)
		}
	}
	now.after(rest)
	if c, ok := n.Cgroup(second); !ok || c.Unit != "finwait-second.service" {
		t.Errorf("%+v, %v", c, ok)
	}
	const never = 1 << 63
	now.after(rest)
	missed := now.Time
	for range 19 {
		if _, ok := n.Cgroup(never); ok {
			t.Error("found what there is not")
		}
		now.after(rest)
	}
	if read := n.walks.next.Add(-rest); !read.Equal(missed.Add(lookAgain)) {
		t.Errorf("the tree was last read %v after a number was not found", read.Sub(missed))
	}
	for id := range uint64(keepMost) {
		n.absent[id+1<<62] = now.Time
	}
	now.after(rest)
	if n.Cgroup(never + 1); len(n.absent) > keepMost {
		t.Errorf("%d numbers that are not there are remembered", len(n.absent))
	}
	if c, ok := n.Cgroup(0); ok {
		t.Errorf("0 is no cgroup: %+v", c)
	}
}

// While a tree takes long to read, it is read less often.
func TestPace(t *testing.T) {
	var (
		p   pace
		now = clock{time.Unix(1e9, 0)}
	)
	looked := func(took time.Duration) bool {
		return p.look(func() time.Time { return now.Time }, rest, func() { now.after(took) })
	}
	if !looked(time.Minute) || looked(0) {
		t.Error("the first look, and no second at once")
	}
	if now.after(restTimes*time.Minute - 1); looked(0) {
		t.Error("a minute's look needs a longer rest")
	}
	if now.after(1); !looked(0) {
		t.Error("20 minutes are enough")
	}
}

// What is gone is remembered for its TIME_WAITs, and then forgotten; the oldest of too many first.
func TestGone(t *testing.T) {
	n, now := withClock(t)
	root, err := cgroup.Root()
	if err != nil {
		t.Fatal(err)
	}
	uid, id := randomUID(), random(64)
	n.podLogs(t, "shop", "web", uid)
	n.containerLog(t, "shop", "web", "nginx", id)
	path := "/kubepods/pod" + uid + "/" + id
	number := inode(t, testnet.Cgroup(t, path))
	want, ok := n.Cgroup(number)
	if !ok || want.Pod != "web" || want.Container != "nginx" {
		t.Fatalf("%+v", want)
	}
	for _, dir := range []string{path, filepath.Dir(path)} {
		if err := os.Remove(filepath.Join(root, dir)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{n.PodLogs, n.ContainerLogs} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	mount := n.Cgroups
	n.Cgroups = "/nowhere" // as when Landlock forbids to read it
	n.Cgroup(1<<63 - 1)
	if k := n.cgroups[number]; k == nil || !k.gone.IsZero() {
		t.Errorf("what cannot be read is gone: %+v", k)
	}
	if found, err := n.Find(Pod, "web"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("found in what cannot be read: %+v, %v", found, err)
	}
	n.Cgroups = mount
	walk := func() { n.Cgroup(1<<63 + uint64(now.UnixNano())) } // a number that was not met before
	now.after(time.Hour)                                        // nobody looked
	walk()
	for _, later := range []time.Duration{0, keep} {
		now.after(later)
		walk()
		if got, ok := n.Cgroup(number); !ok || got != want {
			t.Errorf("%v after it was missed: %+v, %v", later, got, ok)
		}
	}
	if found, err := n.Find(Pod, "web"); err == nil {
		t.Errorf("the filter takes what is gone: %+v", found)
	}
	now.after(rest)
	walk()
	if got, ok := n.Cgroup(number); ok {
		t.Errorf("remembered for ever: %+v", got)
	}

	for i := range uint64(2 * keepMost) {
		n.cgroups[1<<62+i] = &known{gone: now.Time}
		now.after(time.Millisecond)
	}
	now.after(rest)
	walk()
	gone := 0
	for id, k := range n.cgroups {
		if !k.gone.IsZero() {
			gone++
			if id < 1<<62+keepMost {
				t.Fatalf("%d is remembered, and younger ones are not", id-1<<62)
			}
		}
	}
	if gone != keepMost {
		t.Errorf("%d are remembered, want %d", gone, keepMost)
	}
}

// A container's log may be there a little later than its cgroup.
func TestLateName(t *testing.T) {
	n, now := withClock(t)
	uid, id := randomUID(), random(64)
	cgroup := inode(t, testnet.Cgroup(t, "/kubepods/pod"+uid+"/"+id))
	if got, ok := n.Cgroup(cgroup); !ok || got.Pod != "" || got.PodUID != uid {
		t.Fatalf("%+v, %v", got, ok)
	}
	n.podLogs(t, "shop", "web", uid)
	n.containerLog(t, "shop", "web", "nginx", id)
	now.after(nameAgain)
	n.Cgroup(cgroup)
	if got, ok := n.Cgroup(cgroup); !ok || got.Name() != "shop/web" || got.Container != "nginx" {
		t.Errorf("%+v, %v", got, ok)
	}
	for want, later := range map[string]time.Duration{"c": lookAgain, "": patience} {
		id = random(64)
		in, ns := testnet.Cgroup(t, "/docker/"+id), sandbox.New(t)
		startListener(t, ns, in, "web")
		now.after(rest)
		if got, ok := n.Cgroup(inode(t, in)); !ok || got.Name() != id[:12] {
			t.Errorf("%+v, %v", got, ok)
		}
		if got := n.NetNS(ns.Inode, ns.Cookie); got != id[:12] {
			t.Errorf("the namespace is called %q", got)
		}
		now.after(later)
		n.dockerConfig(t, id, fmt.Sprintf(`{"ID":%q,"Name":"/c"}`, id))
		if got, _ := n.Cgroup(inode(t, in)); got.Container != want {
			t.Errorf("after %v: %+v, want %q", later, got, want)
		}
		if got := n.NetNS(ns.Inode, ns.Cookie); want != "" && got != want {
			t.Errorf("the namespace is called %q, want %q", got, want)
		}
	}
}

// What is known costs no memory.
func TestAllocations(t *testing.T) {
	n, now := withClock(t)
	unit := inode(t, testnet.Cgroup(t, "/system.slice/finwait-alloc.service"))
	container := inode(t, testnet.Cgroup(t, "/docker/"+random(64))) // without a name
	ns := sandbox.New(t)
	startListener(t, ns, nil, "web")
	var c Cgroup
	var name string
	for what, fn := range map[string]func(){
		"a unit":                        func() { c, _ = n.Cgroup(unit) },
		"a container without a name":    func() { c, _ = n.Cgroup(container) },
		"what there is not":             func() { c, _ = n.Cgroup(1 << 63) },
		"a namespace":                   func() { name = n.NetNS(ns.Inode, ns.Cookie) },
		"a namespace without a cookie":  func() { name = n.NetNS(ns.Inode, 0) },
		"a namespace that there is not": func() { name = n.NetNS(1, 1<<60) },
		"the host's":                    func() { name = n.NetNS(hostInode, 1) },
	} {
		now.after(lookAgain) // another may have made the tree be read a moment ago
		fn()
		if allocs := testing.AllocsPerRun(1000, fn); allocs != 0 {
			t.Errorf("%s: %v allocations", what, allocs)
		}
	}
	_, _ = c, name
}
