package label

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"finwait/internal/netns"
	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"

	"golang.org/x/sys/unix"
)

// mount gives a namespace a name, as ip-netns(8) does.
func mount(t *testing.T, ns *sandbox.NS, name string) (unmount func()) {
	t.Helper()
	path := filepath.Join(netns.RunDir, name)
	if err := os.MkdirAll(netns.RunDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	unmount = func() {
		_ = unix.Unmount(path, unix.MNT_DETACH)
		_ = os.Remove(path)
	}
	t.Cleanup(unmount)
	if err := unix.Mount(ns.Path(), path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	return unmount
}

// The name in /run/netns, else the process, with any name that it has; and nothing of another
// namespace.
func TestNetNS(t *testing.T) {
	n, now := withClock(t)
	look := func() { now.after(lookAgain) }
	ns := sandbox.New(t)
	if name := n.NetNS(ns.Inode, ns.Cookie); name != "" {
		t.Errorf("nobody is in it, and it is called %q", name)
	}
	const hostile = "\x1b[2J\u009b/\n) ("
	pid, end := startListener(t, ns, nil, hostile)
	process := fmt.Sprintf("%d/%s", pid, hostile)
	if name := n.NetNS(ns.Inode, ns.Cookie); name != "" {
		t.Errorf("looked for again at once: %q", name)
	}
	look()
	for _, cookie := range []uint64{ns.Cookie, 0} {
		if name := n.NetNS(ns.Inode, cookie); name != process {
			t.Errorf("cookie %d: %q, want %q", cookie, name, process)
		}
	}
	young := sandbox.New(t)
	startListener(t, young, nil, "young")
	for _, known := range []bool{false, true} {
		if name := n.NetNS(young.Inode, young.Cookie); known != strings.HasSuffix(name, "/young") {
			t.Errorf("%q: what came after a scan is known after the next: %v", name, known)
		}
		now.after(rest)
	}
	// Another namespace had this number.
	if name := n.NetNS(ns.Inode, ns.Cookie+1<<40); name != "" {
		t.Errorf("another with its number is called %q", name)
	}

	// What is gone keeps its name for its TIME_WAITs.
	end()
	for _, cookie := range []uint64{ns.Cookie, 0} {
		look()
		if name := n.NetNS(ns.Inode, cookie); name != process {
			t.Errorf("cookie %d: what is gone is called %q, want %q", cookie, name, process)
		}
	}
	now.after(keep)
	for _, cookie := range []uint64{ns.Cookie, 0} {
		if name := n.NetNS(ns.Inode, cookie); name != "" {
			t.Errorf("cookie %d: what has long been gone is called %q", cookie, name)
		}
	}

	name := fmt.Sprintf("finwait-label-%d", os.Getpid())
	other := sandbox.New(t)
	unmount := mount(t, other, name)
	startListener(t, other, nil, "web")
	look()
	for _, cookie := range []uint64{other.Cookie, 0} {
		if got := n.NetNS(other.Inode, cookie); got != name {
			t.Errorf("cookie %d: %q, want %q", cookie, got, name)
		}
	}
	// The name is another's by now.
	unmount()
	third := sandbox.New(t)
	mount(t, third, name)
	look()
	if got := n.NetNS(third.Inode, other.Cookie+1<<40); got != "" {
		t.Errorf("called %q by its number, and has another cookie", got)
	}
	if got := n.NetNS(third.Inode, third.Cookie); got != name {
		t.Errorf("%q, want %q", got, name)
	}
}

// A name that a runtime has made up tells less than the pod in the namespace, and more than nothing.
func TestNameByRuntime(t *testing.T) {
	n, now := withClock(t)
	uid := randomUID()
	n.podLogs(t, "shop", "web", uid)
	ns, made := sandbox.New(t), "cni-"+randomUID()
	mount(t, ns, made)
	if got := n.NetNS(ns.Inode, ns.Cookie); got != made {
		t.Errorf("%q, want %q", got, made)
	}
	_, end := startListener(t, ns, nil, "plain")
	now.after(lookAgain)
	if got := n.NetNS(ns.Inode, ns.Cookie); got != made {
		t.Errorf("%q, want %q", got, made)
	}
	end()
	startListener(t, ns, testnet.Cgroup(t, "/kubepods/pod"+uid+"/"+random(64)), "web")
	now.after(lookAgain)
	for range 2 { // of the sandbox, which has no name: that of the pod is for good
		if got := n.NetNS(ns.Inode, ns.Cookie); got != "shop/web" {
			t.Errorf("%q", got)
		}
		now.after(time.Hour)
		n.members = nil
	}
	if !n.spaces[space{ns.Inode, ns.Cookie}].again.IsZero() {
		t.Error("it is looked for again")
	}
}

// The test runs in the host's namespace: who can tell by its number or its cookie does, and a
// process of pid 1 leads there too.
func TestHost(t *testing.T) {
	self, err := netns.Find("self")
	if err != nil {
		t.Fatal(err)
	}
	if self.Inode != hostInode && self.Cookie != hostCookie {
		t.Skipf("not the host's namespace, or a kernel that does not tell: number %d, cookie %d", self.Inode, self.Cookie)
	}
	n, _ := withClock(t)
	for _, cookie := range []uint64{self.Cookie, 0} {
		if name := n.NetNS(self.Inode, cookie); name != Host {
			t.Errorf("cookie %d: %q", cookie, name)
		}
	}
	// Before 6.17 its number is any.
	n.scan()
	if n.host != self.Inode {
		t.Errorf("found %d, want %d", n.host, self.Inode)
	}
	n.host = 7
	if name := n.NetNS(7, 0); name != Host {
		t.Errorf("by its number: %q", name)
	}
	if name := n.NetNS(7, self.Cookie+1<<40); name != "" {
		t.Errorf("another with its number: %q", name)
	}
	if path, err := n.FindNetNS(Host); err != nil {
		t.Error(err)
	} else if found, err := netns.Find(path); err != nil || found.Cookie != self.Cookie {
		t.Errorf("%s is %+v, %v", path, found, err)
	}
}

// The number of names is bounded, and the oldest goes.
func TestManyNetNS(t *testing.T) {
	n, now := withClock(t)
	for i := range uint64(3 * keepMost) {
		now.after(time.Millisecond)
		n.NetNS(1, 1<<60+i)
	}
	if len(n.spaces) > keepMost {
		t.Errorf("%d are remembered", len(n.spaces))
	}
	for i := range uint64(keepMost / 2) {
		if _, ok := n.spaces[space{1, 1<<60 + 3*keepMost - 1 - i}]; !ok {
			t.Fatalf("the one before %d others is forgotten", i)
		}
	}
}

// A namespace is found by who lives in it, in every spelling, and by what NetNS calls it.
func TestFindNetNS(t *testing.T) {
	n := New()
	n.Dirs = tempDirs(t)
	uid, id := randomUID(), random(64)
	n.podLogs(t, "shop", "web", uid)
	n.containerLog(t, "shop", "web", "nginx", id)
	top := fmt.Sprintf("/finwait%d.slice", os.Getpid())
	pod, unit, plain, twin := sandbox.New(t), sandbox.New(t), sandbox.New(t), sandbox.New(t)
	startListener(t, pod, testnet.Cgroup(t, top+"/kubepods.slice/kubepods-pod"+strings.ReplaceAll(uid, "-", "_")+".slice/cri-containerd-"+id+".scope"), "web")
	startListener(t, unit, testnet.Cgroup(t, top+"/finwait-a.service"), "a")
	pid, _ := startListener(t, plain, nil, "plain")
	for name, want := range map[string]*sandbox.NS{
		"web": pod, "shop/web": pod, uid: pod, "nginx": pod, id: pod, id[:12]: pod,
		"finwait-a.service": unit, "finwait-a": unit, strconv.Itoa(pid) + "/plain": plain,
	} {
		path, err := n.FindNetNS(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if ns, err := netns.Find(path); err != nil || ns.Cookie != want.Cookie {
			t.Errorf("%s is at %s, which is %+v, %v, want cookie %d", name, path, ns, err, want.Cookie)
		}
		if called := n.NetNS(want.Inode, want.Cookie); want == pod && called != "shop/web" || want == unit && called != "finwait-a.service" {
			t.Errorf("called %q", called)
		}
	}
	for _, name := range []string{id[:11], "we", "shop", "/web", "plain", "0/plain"} {
		if path, err := n.FindNetNS(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q is at %q, %v", name, path, err)
		}
	}
	startListener(t, twin, testnet.Cgroup(t, top+"/b.slice/finwait-a.service"), "a")
	_, err := n.FindNetNS("finwait-a")
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint(unit.Inode)) || !strings.Contains(err.Error(), fmt.Sprint(twin.Inode)) {
		t.Errorf("two of a name: %v", err)
	}
}
