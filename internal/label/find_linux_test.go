package label

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"finwait/internal/cgroup"
	"finwait/internal/test/testnet"
	"finwait/tracer"
)

// Each name leads to the topmost cgroups that have it, as cgroup.Find numbers them.
func TestFind(t *testing.T) {
	n := New()
	n.Dirs = tempDirs(t)
	uid, id, other, manager := randomUID(), random(64), random(64), "/user.slice/user-1.slice/user@1.service"
	top := fmt.Sprintf("/finwait%d.slice", os.Getpid())
	pod := top + "/kubepods.slice/kubepods-pod" + strings.ReplaceAll(uid, "-", "_") + ".slice"
	in := pod + "/cri-containerd-" + id + ".scope"
	twin := top + "/kubepods/pod" + random(32)
	testnet.Cgroup(t, in+"/init.scope")
	testnet.Cgroup(t, twin+"/"+other)
	testnet.Cgroup(t, top+"/finwait-a.service/sub")
	testnet.Cgroup(t, top+"/finwait-a.service-not.service")
	testnet.Cgroup(t, manager+"/app.slice/finwait-a.service")
	n.podLogs(t, "shop", "finwait-web", uid)
	n.podLogs(t, "test", "finwait-web", twin[len(twin)-32:])
	n.containerLog(t, "shop", "finwait-web", "finwait-nginx", id)

	for _, c := range []struct {
		kind  Kind
		name  string
		paths []string
	}{
		{Pod, "shop/finwait-web", []string{pod}},
		{Pod, "finwait-web", []string{twin, pod}},
		{Pod, uid, []string{pod}},
		{Container, "finwait-nginx", []string{in}},
		{Container, id[:12], []string{in}},
		{Container, other, []string{twin + "/" + other}},
		{Unit, "finwait-a", []string{top + "/finwait-a.service", manager + "/app.slice/finwait-a.service"}},
		{Unit, "finwait-a.service", []string{top + "/finwait-a.service", manager + "/app.slice/finwait-a.service"}},
	} {
		found, err := n.Find(c.kind, c.name)
		var paths []string
		for _, s := range found {
			paths = append(paths, s.Path)
			if id, level, path, err := cgroup.Find(s.Path); err != nil || s != (Subtree{tracer.Cgroup{ID: id, Level: level}, path}) {
				t.Errorf("%s %q: %+v, want %d, %d, %s, %v", c.kind.word, c.name, s, id, level, path, err)
			}
		}
		slices.Sort(c.paths)
		if err != nil || !slices.Equal(paths, c.paths) {
			t.Errorf("%s %q: %q, %v, want %q", c.kind.word, c.name, paths, err, c.paths)
		}
	}

	for _, c := range []struct {
		kind      Kind
		name, say string
	}{
		{Pod, "finwait-wob", "shop/finwait-web, test/finwait-web"},
		{Pod, "shop/", `no pod is called "shop/"`},
		{Pod, "test/finwait-nginx", "there is"},
		{Container, id[:11], " the name cannot be read"},
		{Container, "finwait", "finwait-nginx"},
		{Unit, "finwait-b", "finwait-a.service"},
		{Unit, "sub", `no unit is called "sub"`},
	} {
		if found, err := n.Find(c.kind, c.name); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s %q: %v, %v, want %q", c.kind.word, c.name, found, err, c.say)
		}
	}
	for kind, want := range map[*Kind]string{&Pod: "shop/finwait-web", &Container: "finwait-nginx", &Unit: "finwait-a.service"} {
		if names := n.Names(*kind); !slices.Contains(names, want) || !slices.IsSorted(names) || slices.Contains(names, "") {
			t.Errorf("%s: %q", kind.word, names)
		}
	}
}

func TestBoth(t *testing.T) {
	at := func(paths ...string) (list []Subtree) {
		for _, p := range paths {
			list = append(list, Subtree{Path: p})
		}
		return list
	}
	for _, c := range []struct{ a, b, want []Subtree }{
		{at("/a"), at("/a"), at("/a")},
		{at("/a"), at("/a/b"), at("/a/b")},
		{at("/a/b"), at("/a"), at("/a/b")},
		{at("/"), at("/a", "/b"), at("/a", "/b")},
		{at("/a", "/b"), at("/b/c", "/d"), at("/b/c")},
		{at("/a"), at("/ab"), nil},
		{at("/a"), nil, nil},
	} {
		if got := Both(c.a, c.b); !slices.Equal(got, c.want) {
			t.Errorf("%v and %v: %v, want %v", c.a, c.b, got, c.want)
		}
	}
}
