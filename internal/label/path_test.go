package label

import (
	"strings"
	"testing"
)

const (
	uid    = "8f1c2a3b-0d4e-4f5a-9b6c-7d8e9f0a1b2c"
	static = "0123456789abcdef0123456789abcdef"
)

var (
	id1  = strings.Repeat("0123456789abcdef", 4)
	id2  = strings.Repeat("fedcba9876543210", 4)
	uid_ = strings.ReplaceAll(uid, "-", "_")
)

func TestParse(t *testing.T) {
	of := func(unit, container, pod string) Cgroup {
		return Cgroup{Unit: unit, ContainerID: container, PodUID: pod}
	}
	for path, want := range map[string]struct {
		Cgroup
		origin
	}{
		"/":     {},
		"/user": {},
		// The kubelet's driver cgroupfs.
		"/kubepods":                                        {},
		"/kubepods/burstable":                              {},
		"/kubepods/burstable/pod" + uid:                    {of("", "", uid), origin{}},
		"/kubepods/burstable/pod" + uid + "/" + id1:        {of("", id1, uid), origin{}},
		"/kubepods/pod" + static + "/" + id1:               {of("", id1, static), origin{}},
		"/kubepods/besteffort/pod" + uid + "/crio-" + id1:  {of("", id1, uid), origin{}},
		"/kubepods/pod" + uid + "/crio-conmon-" + id1:      {of("", "", uid), origin{}},
		"/kubepods/pod" + uid + "/" + id1 + "/init.scope":  {of("", id1, uid), origin{}},
		"/kubepods/pod" + uid + "/" + id1 + "/a.service/b": {of("", id1, uid), origin{}},
		// Its driver systemd.
		"/kubepods.slice/kubepods-burstable.slice":                                                                             {},
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uid_ + ".slice":                                    {of("", "", uid), origin{}},
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uid_ + ".slice/cri-containerd-" + id1 + ".scope":   {of("", id1, uid), origin{}},
		"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + uid_ + ".slice/crio-" + id1 + ".scope/container": {of("", id1, uid), origin{}},
		"/kubepods.slice/kubepods-pod" + static + ".slice/docker-" + id1 + ".scope":                                            {of("", id1, static), origin{}},
		"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + uid_ + ".slice/cri-containerd-" + id1 + ".scope":        {of("", id1, uid), origin{}},
		"/system.slice/containerd.service/kubepods-burstable-pod" + uid_ + ".slice:cri-containerd:" + id1:                      {of("containerd.service", id1, uid), origin{}},
		"/kubepods.slice/kubepods-pod" + uid_ + ".slice/cri-containerd-" + id1 + ".scope/kubepods/pod" + static + "/" + id2:    {of("", id2, uid), origin{nested: true}},
		"/kubepods.slice/kubepods-pod" + uid_ + ".slice/cri-containerd-" + id1 + ".scope/system.slice/nginx.service":           {of("", id1, uid), origin{}},
		// podman, docker.
		"/libpod_parent/libpod-" + id1:                                                                {of("", id1, ""), origin{}},
		"/libpod_parent/conmon":                                                                       {},
		"/libpod_parent/" + id2:                                                                       {}, // a pod of podman
		"/libpod_parent/" + id2 + "/libpod-" + id1:                                                    {of("", id1, ""), origin{}},
		"/machine.slice/libpod-" + id1 + ".scope":                                                     {of("", id1, ""), origin{}},
		"/machine.slice/libpod-" + id1 + ".scope/container":                                           {of("", id1, ""), origin{}},
		"/machine.slice/libpod-conmon-" + id1 + ".scope":                                              {of("libpod-conmon-"+id1+".scope", "", ""), origin{}},
		"/machine.slice/machine-libpod_pod_" + id2 + ".slice/libpod-" + id1 + ".scope":                {of("", id1, ""), origin{}},
		"/system.slice/web.service/libpod-payload-" + id1:                                             {of("web.service", id1, ""), origin{}},
		"/docker/" + id1:                                                                              {of("", id1, ""), origin{}},
		"/docker/" + id1 + "/docker/" + id2:                                                           {of("", id2, ""), origin{nested: true}},
		"/docker/" + id1 + "/docker/" + id2 + "/" + id2:                                               {of("", id2, ""), origin{nested: true}},
		"/docker/" + id1 + "/kubepods/pod" + uid:                                                      {of("", id1, ""), origin{}}, // the container's own claim
		"/system.slice/docker-" + id1 + ".scope":                                                      {of("", id1, ""), origin{}},
		"/system.slice/docker-" + id1 + ".scope/init.scope":                                           {of("", id1, ""), origin{}},
		"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id1 + ".scope":           {of("user@1000.service", id1, ""), origin{user: "1000"}},
		"/user.slice/user-1000.slice/user@1000.service/kubepods/pod" + uid + "/" + id1:                {of("user@1000.service", id1, ""), origin{user: "1000"}},
		"/user.slice/user-1000.slice/user@1000.service/kubepods.slice/kubepods-pod" + uid_ + ".slice": {of("user@1000.service", "", ""), origin{user: "1000"}},
		// systemd.
		"/init.scope":                                                         {of("init.scope", "", ""), origin{}},
		"/system.slice":                                                       {},
		"/system.slice/nginx.service":                                         {of("nginx.service", "", ""), origin{}},
		"/system.slice/nginx.service/b.service":                               {of("nginx.service", "", ""), origin{}}, // made by nginx
		"/system.slice/system-getty.slice/getty@tty1.service":                 {of("getty@tty1.service", "", ""), origin{}},
		`/system.slice/dev-disk-by\x2dlabel-a.swap`:                           {of(`dev-disk-by\x2dlabel-a.swap`, "", ""), origin{}},
		"/system.slice/_cgroup.x.service":                                     {of("cgroup.x.service", "", ""), origin{}},
		"/system.slice/a:b@c:d.service":                                       {of("a:b@c:d.service", "", ""), origin{}},
		"/system.slice/a\x1b[2J.service":                                      {},
		"/system.slice/a b.service":                                           {},
		"/system.slice/.service":                                              {},
		"/a/nginx.service":                                                    {}, // not below slices only
		"/user.slice/user-1000.slice/session-3.scope":                         {of("session-3.scope", "", ""), origin{}},
		"/user.slice/user-1000.slice/user@1000.service":                       {of("user@1000.service", "", ""), origin{user: "1000"}},
		"/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service": {of("foo.service", "", ""), origin{user: "1000"}},
		"/user.slice/user-1000.slice/user@1000.service/app.slice/user@0.service/libpod-" + id1: {of("user@0.service", id1, ""), origin{user: "1000"}},
		// What only looks like one.
		"/kubepods/pod" + uid + "/pod" + static: {of("", "", uid), origin{}},
		"/kubepods/pod" + uid + "0":             {},
		"/kubepods/pod" + uid_[:35]:             {},
		"/kubepods/pod" + strings.ToUpper(uid):  {},
		"/pod" + uid:                            {},
		"/pod" + uid + "/" + id1:                {of("", id1, ""), origin{}},
		"/docker/" + id1[1:]:                    {},
		"/docker/0" + id1:                       {},
		"/docker/" + strings.ToUpper(id1):       {},
		"/docker-" + id1 + ".service":           {of("docker-"+id1+".service", "", ""), origin{}},
		"/docker/" + id1 + "\n":                 {},
		"/kubepods/pod" + uid + "\n/" + id1:     {of("", id1, ""), origin{}},
	} {
		want.Path = path
		if c, o := parse(path); c != want.Cgroup || o != want.origin {
			t.Errorf("%s:\n got %+v %+v\nwant %+v %+v", path, c, o, want.Cgroup, want.origin)
		}
	}
}

// Whatever the path, nothing that is found has characters that its kind has not.
func FuzzParse(f *testing.F) {
	f.Add("/kubepods.slice/kubepods-pod" + uid_ + ".slice/cri-containerd-" + id1 + ".scope")
	f.Add("/user.slice/user@0.service/a.service/:cri-containerd:" + id1)
	f.Fuzz(func(t *testing.T, path string) {
		c, _ := parse(path)
		if c.ContainerID != "" && !containerID.MatchString(c.ContainerID) || c.PodUID != "" && !podUID.MatchString(c.PodUID) ||
			strings.ContainsFunc(c.Unit, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) {
			t.Errorf("%q: %+v", path, c)
		}
	})
}
