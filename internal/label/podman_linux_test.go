package label

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"finwait/internal/netns"
	"finwait/internal/sockdiag"
)

// A podman runs containers with a storage of its own.
type podman struct {
	t       *testing.T
	dir     string
	storage string
}

// newPodman skips the test without podman.
func newPodman(t *testing.T) *podman {
	t.Helper()
	for _, tool := range []string{"podman", "runc"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skipf("that containers of podman have their names is not tested: %v", err)
		}
	}
	p := &podman{t: t, dir: t.TempDir()}
	p.storage = filepath.Join(p.dir, "storage")
	// crun refuses a host that has cgroup v1 too, and limits may only be lowered without CAP_SYS_RESOURCE.
	write(t, filepath.Join(p.dir, "containers.conf"), "[containers]\ndefault_ulimits=[\"nofile=1024:1024\",\"nproc=64:64\"]\n[engine]\nruntime=\"runc\"\n")
	const parents = "/sys/fs/cgroup/*/libpod_parent" // in each hierarchy of a host that has cgroup v1 too
	before, _ := filepath.Glob(parents)
	t.Cleanup(func() {
		p.run("rm", "--force", "--all", "--time", "0")
		for range 100 {
			left, _ := filepath.Glob(parents)
			if len(before) > 0 || len(left) == 0 {
				return
			}
			for _, dir := range left {
				_ = os.Remove(filepath.Join(dir, "conmon"))
				_ = os.Remove(dir)
			}
			time.Sleep(20 * time.Millisecond) // conmon ends a little later
		}
		t.Error("cgroups of podman are left")
	})
	return p
}

func (p *podman) run(args ...string) string {
	p.t.Helper()
	cmd := exec.Command("podman", append([]string{
		"--root", p.storage, "--runroot", filepath.Join(p.dir, "run"), "--tmpdir", filepath.Join(p.dir, "tmp"),
		"--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none",
	}, args...)...)
	cmd.Env = append(os.Environ(), "CONTAINERS_CONF="+filepath.Join(p.dir, "containers.conf"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatalf("podman %s: %v: %s", strings.Join(args, " "), err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// image makes one that holds a static binary, and nothing from a network.
func (p *podman) image(name string) {
	p.t.Helper()
	binary := filepath.Join(p.dir, "listen")
	build := exec.Command("go", "build", "-o", binary, "./testdata/listen")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		p.t.Fatal(err)
	}
	archive := filepath.Join(p.dir, "image.tar")
	f, err := os.Create(archive)
	if err != nil {
		p.t.Fatal(err)
	}
	w := tar.NewWriter(f)
	err = w.WriteHeader(&tar.Header{Name: "listen", Mode: 0o755, Size: int64(len(program))})
	if err == nil {
		_, err = w.Write(program)
	}
	if err := errors.Join(err, w.Close(), f.Close()); err != nil {
		p.t.Fatal(err)
	}
	p.run("import", "--change", `ENTRYPOINT ["/listen"]`, archive, name)
}

// A real container: its socket, its namespace and the filter know it by its name, also when it is
// removed, and another that is called so is not confused with it.
func TestPodman(t *testing.T) {
	p := newPodman(t)
	p.image("finwait-test")
	n := New()
	n.Podman = p.storage
	name := fmt.Sprintf("finwait-web.%d", os.Getpid())
	var was Cgroup
	var socket uint64
	for _, args := range [][]string{{}, {"--rm"}} {
		id := p.run(append(append([]string{"run", "--detach", "--network", "none", "--name", name}, args...), "finwait-test")...)
		pid, err := strconv.Atoi(p.run("inspect", "--format", "{{.State.Pid}}", name))
		if err != nil {
			t.Fatal(err)
		}
		ns, err := netns.Find(netns.PathOf(pid))
		if err != nil {
			t.Fatal(err)
		}
		before := socket
		if socket = awaitSocket(t, ns); socket == before {
			t.Fatal("both are in one cgroup")
		}
		n.walks, n.scans = pace{}, pace{}
		c, ok := n.Cgroup(socket)
		if !ok || c.ContainerID != id || c.Container != name || c.PodUID != "" || c.Unit != "" || !strings.HasSuffix(c.Path, "/libpod-"+id) {
			t.Errorf("%v: %+v, %v, want %s", args, c, ok, id)
		}
		if got := n.NetNS(ns.Inode, ns.Cookie); got != name {
			t.Errorf("%v: its namespace is called %q", args, got)
		}
		if path, err := n.FindNetNS(id[:12]); err != nil || path != netns.PathOf(pid) {
			t.Errorf("%v: its namespace is at %q, %v, want %s", args, path, err, netns.PathOf(pid))
		}
		for _, by := range []string{name, id[:12]} {
			if found, err := n.Find(Container, by); err != nil || len(found) != 1 || found[0].ID != socket {
				t.Errorf("%v: %s: %+v, %v, want cgroup %d", args, by, found, err, socket)
			}
		}
		if gone, ok := n.Cgroup(before); ok != (before != 0) || gone != was {
			t.Errorf("the one before is %+v, %v, and was %+v", gone, ok, was)
		}
		was = c
		p.run("rm", "--force", "--time", "0", name)
	}
	if found, err := n.Find(Container, name); err == nil {
		t.Errorf("the filter takes what is gone: %+v", found)
	}
}

// awaitSocket waits for the socket of the only listener in a namespace, and gives its cgroup.
func awaitSocket(t *testing.T, ns netns.NS) (cgroup uint64) {
	t.Helper()
	for range 200 {
		if err := netns.Do(ns.Path, func() error {
			conn, err := sockdiag.Open()
			if err != nil {
				return err
			}
			defer conn.Close()
			return conn.List(sockdiag.AllStates, func(s *sockdiag.Socket) error {
				cgroup = s.CgroupID
				return nil
			})
		}); err != nil {
			t.Fatal(err)
		}
		if cgroup != 0 {
			return cgroup
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("it does not listen")
	return 0
}
