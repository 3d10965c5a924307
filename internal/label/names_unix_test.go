//go:build unix

package label

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// tempDirs are directories of a test for all that is read but cgroups.
func tempDirs(t *testing.T) Dirs {
	t.Helper()
	top := t.TempDir()
	d := Dirs{
		PodLogs: filepath.Join(top, "pods"), ContainerLogs: filepath.Join(top, "containers"), Docker: filepath.Join(top, "docker"),
		Podman: filepath.Join(top, "storage"), Passwd: filepath.Join(top, "passwd"),
	}
	for _, dir := range []string{d.PodLogs, d.ContainerLogs, d.Docker, d.Podman} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// write makes a file, and the directories above it.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (d *Dirs) podLogs(t *testing.T, namespace, name, uid string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(d.PodLogs, namespace+"_"+name+"_"+uid, "web"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// containerLog is a link to nowhere, as it is when the log has been removed.
func (d *Dirs) containerLog(t *testing.T, namespace, name, container, id string) {
	t.Helper()
	if err := os.Symlink("/nowhere", filepath.Join(d.ContainerLogs, name+"_"+namespace+"_"+container+"-"+id+".log")); err != nil {
		t.Fatal(err)
	}
}

func (d *Dirs) dockerConfig(t *testing.T, id, text string) {
	t.Helper()
	write(t, filepath.Join(d.Docker, id, "config.v2.json"), text)
}

func storage(t *testing.T, dir, file string, containers ...string) {
	t.Helper()
	write(t, filepath.Join(dir, file), "["+strings.Join(containers, ",")+"]")
}

func stored1(id, name string) string {
	return fmt.Sprintf(`{"id":%q,"names":[%q],"layer":"x"}`, id, name)
}

// namesOf is what is known of a cgroup with this path.
func namesOf(d Dirs, path string) Cgroup {
	n := New()
	n.Dirs = d
	k := &known{}
	k.Cgroup, k.origin = parse(path)
	n.name([]*known{k})
	return k.Cgroup
}

const manager = "/user.slice/user-1000.slice/user@1000.service/"

func TestNames(t *testing.T) {
	d := tempDirs(t)
	d.podLogs(t, "shop", "web-7d4b9c6f5-x2x4z", uid)
	d.podLogs(t, "kube-system", "kube-apiserver-node.example", static)
	d.containerLog(t, "shop", "web-7d4b9c6f5-x2x4z", "web-1-a", id1)
	d.dockerConfig(t, id1, `{"ID":"`+id1+`","Name":"/db_1","State":{"Pid":1}}`)
	storage(t, d.Podman, "overlay-containers/containers.json", stored1(id2, "cache"))
	home := t.TempDir()
	write(t, d.Passwd, "root:x:0:0:root:/root:/bin/sh\nbroken\n:::::::\nme:x:1000:1000:,,,:"+home+":/bin/sh\n")
	storage(t, home, userStorage+"/vfs-containers/volatile-containers.json", stored1(id2, "mine"))

	for path, want := range map[string]Cgroup{
		"/kubepods/burstable/pod" + uid:                                                             {PodNamespace: "shop", Pod: "web-7d4b9c6f5-x2x4z"},
		"/kubepods/burstable/pod" + uid + "/" + id1:                                                 {PodNamespace: "shop", Pod: "web-7d4b9c6f5-x2x4z", Container: "web-1-a"},
		"/kubepods.slice/kubepods-pod" + uid_ + ".slice/cri-containerd-" + id1 + ".scope/a.service": {PodNamespace: "shop", Pod: "web-7d4b9c6f5-x2x4z", Container: "web-1-a"},
		"/kubepods/burstable/pod" + uid + "/" + id2:                                                 {PodNamespace: "shop", Pod: "web-7d4b9c6f5-x2x4z"}, // the sandbox has no log
		"/kubepods/burstable/pod" + static + "/" + id2:                                              {PodNamespace: "kube-system", Pod: "kube-apiserver-node.example"},
		"/kubepods/pod" + uid[:35] + "d/" + id1:                                                     {PodNamespace: "shop", Pod: "web-7d4b9c6f5-x2x4z", Container: "web-1-a"}, // by the log of the container
		"/kubepods/pod" + uid[:35] + "d/" + id2:                                                     {},
		"/docker/" + id1:                                                                            {Container: "db_1"},
		"/system.slice/docker-" + id1 + ".scope/init.scope":                                         {Container: "db_1"},
		"/libpod_parent/libpod-" + id2:                                                              {Container: "cache"},
		"/machine.slice/libpod-" + id2 + ".scope/container":                                         {Container: "cache"},
		manager + "user.slice/libpod-" + id2 + ".scope":                                             {Container: "mine"},
		// What a container or a user has made is not named by the host's files.
		"/docker/" + id2 + "/docker/" + id1:                     {},
		"/docker/" + id2 + "/kubepods/pod" + uid + "/" + id1:    {},
		manager + "docker/" + id1:                               {},
		manager + "kubepods/pod" + uid + "/" + id1:              {},
		"/user.slice/user-7.slice/user@7.service/docker-" + id2: {}, // nobody has uid 7
	} {
		got := namesOf(d, path)
		if got.PodNamespace != want.PodNamespace || got.Pod != want.Pod || got.Container != want.Container {
			t.Errorf("%s: %q %q %q, want %q %q %q", path, got.PodNamespace, got.Pod, got.Container, want.PodNamespace, want.Pod, want.Container)
		}
	}
}

// Files that are not as they should be give no name, and no others lose theirs.
func TestBadFiles(t *testing.T) {
	const esc = "\x1b[2J"
	good := stored1(id2, "good")
	huge := strings.Repeat(" ", fileMax)
	inDocker, inPodman := "/docker/"+id1, "/libpod_parent/libpod-"+id1
	link := func(t *testing.T, to, from string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(from), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, from); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		path string
		make func(*testing.T, *Dirs)
	}{
		"broken":       {inDocker, func(t *testing.T, d *Dirs) { d.dockerConfig(t, id1, `{"ID":"`+id1+`","Name":"/web"`) }},
		"empty":        {inDocker, func(t *testing.T, d *Dirs) { d.dockerConfig(t, id1, "") }},
		"a list":       {inDocker, func(t *testing.T, d *Dirs) { d.dockerConfig(t, id1, `["/web"]`) }},
		"a number":     {inDocker, func(t *testing.T, d *Dirs) { d.dockerConfig(t, id1, `{"ID":"`+id1+`","Name":7}`) }},
		"another's":    {inDocker, func(t *testing.T, d *Dirs) { d.dockerConfig(t, id1, `{"ID":"`+id2+`","Name":"/web"}`) }},
		"huge":         {inDocker, func(t *testing.T, d *Dirs) { d.dockerConfig(t, id1, `{"ID":"`+id1+`","Name":"/web"}`+huge) }},
		"ESC":          {inDocker, func(t *testing.T, d *Dirs) { d.dockerConfig(t, id1, `{"ID":"`+id1+`","Name":"/a\u001b[2J"}`) }},
		"a line's end": {inDocker, func(t *testing.T, d *Dirs) { d.dockerConfig(t, id1, `{"ID":"`+id1+`","Name":"/web\n"}`) }},
		"a slash":      {inDocker, func(t *testing.T, d *Dirs) { d.dockerConfig(t, id1, `{"ID":"`+id1+`","Name":"/a/b"}`) }},
		"a long name": {inDocker, func(t *testing.T, d *Dirs) {
			d.dockerConfig(t, id1, `{"ID":"`+id1+`","Name":"`+strings.Repeat("a", 254)+`"}`)
		}},
		"a directory":  {inDocker, func(t *testing.T, d *Dirs) { write(t, filepath.Join(d.Docker, id1, "config.v2.json", "x"), "") }},
		"a loop":       {inDocker, func(t *testing.T, d *Dirs) { link(t, "config.v2.json", filepath.Join(d.Docker, id1, "config.v2.json")) }},
		"a loop above": {inDocker, func(t *testing.T, d *Dirs) { link(t, id1, filepath.Join(d.Docker, id1)) }},
		"a device":     {inDocker, func(t *testing.T, d *Dirs) { link(t, "/dev/zero", filepath.Join(d.Docker, id1, "config.v2.json")) }},
		"no directory": {inDocker, func(t *testing.T, d *Dirs) { d.Docker = "" }},
		"a link outside": {inDocker, func(t *testing.T, d *Dirs) {
			outside := filepath.Join(t.TempDir(), "config")
			write(t, outside, `{"ID":"`+id1+`","Name":"/web"}`)
			link(t, outside, filepath.Join(d.Docker, id1, "config.v2.json"))
		}},
		"a FIFO": {inDocker, func(t *testing.T, d *Dirs) {
			write(t, filepath.Join(d.Docker, id1, "x"), "")
			fifo := filepath.Join(d.Docker, id1, "config.v2.json")
			if err := syscall.Mkfifo(fifo, 0o644); err != nil {
				t.Fatal(err)
			}
			writer, err := os.OpenFile(fifo, os.O_RDWR, 0) // which never writes
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { writer.Close() })
		}},
		"podman, cut off": {inPodman, func(t *testing.T, d *Dirs) {
			write(t, filepath.Join(d.Podman, "overlay-containers/containers.json"), "["+stored1(id1, "web")+",{")
		}},
		"podman, an object": {inPodman, func(t *testing.T, d *Dirs) {
			write(t, filepath.Join(d.Podman, "overlay-containers/containers.json"), stored1(id1, "web"))
		}},
		"podman, no name": {inPodman, func(t *testing.T, d *Dirs) {
			storage(t, d.Podman, "overlay-containers/containers.json", `{"id":"`+id1+`","names":[]}`)
		}},
		"podman, null": {inPodman, func(t *testing.T, d *Dirs) {
			storage(t, d.Podman, "overlay-containers/containers.json", "null", `{"id":null,"names":null}`)
		}},
		"podman, ESC": {inPodman, func(t *testing.T, d *Dirs) {
			storage(t, d.Podman, "overlay-containers/containers.json", stored1(id1, "a\x1bb"))
		}},
		"podman, two names": {inPodman, func(t *testing.T, d *Dirs) {
			storage(t, d.Podman, "overlay-containers/containers.json", stored1(id1, "a"), stored1(id1, "b"))
		}},
		"podman, a prefix": {inPodman, func(t *testing.T, d *Dirs) {
			storage(t, d.Podman, "overlay-containers/containers.json", stored1(id1[:12], "a"))
		}},
		"podman, huge": {inPodman, func(t *testing.T, d *Dirs) {
			storage(t, d.Podman, "overlay-containers/containers.json", stored1(id1, "a"), huge)
		}},
		"podman, deep": {inPodman, func(t *testing.T, d *Dirs) {
			write(t, filepath.Join(d.Podman, "overlay-containers/containers.json"), strings.Repeat("[", 1<<20))
		}},
		"a user's link to root's": {manager + "libpod-" + id1, func(t *testing.T, d *Dirs) {
			storage(t, d.Podman, "overlay-containers/containers.json", stored1(id1, "root's"))
			home := t.TempDir()
			write(t, d.Passwd, "me:x:1000:1000::"+home+":/bin/sh\n")
			link(t, d.Podman, filepath.Join(home, userStorage))
		}},
		"no passwd":       {manager + "libpod-" + id1, func(t *testing.T, d *Dirs) { d.Passwd = "/nowhere/passwd" }},
		"pod, ESC":        {"/kubepods/pod" + uid, func(t *testing.T, d *Dirs) { d.podLogs(t, "a", "b"+esc, uid) }},
		"pod, a line":     {"/kubepods/pod" + uid, func(t *testing.T, d *Dirs) { d.podLogs(t, "a\nb", "c", uid) }},
		"pod, four parts": {"/kubepods/pod" + uid, func(t *testing.T, d *Dirs) { d.podLogs(t, "a", "b_c", uid) }},
		"pod, no name":    {"/kubepods/pod" + uid, func(t *testing.T, d *Dirs) { d.podLogs(t, "a", "", uid) }},
		"pod, two names":  {"/kubepods/pod" + uid, func(t *testing.T, d *Dirs) { d.podLogs(t, "a", "b", uid); d.podLogs(t, "a", "c", uid) }},
		"pod, no logs":    {"/kubepods/pod" + uid, func(t *testing.T, d *Dirs) { d.PodLogs = "/nowhere" }},
		"log, ESC":        {"/kubepods/pod" + uid + "/" + id1, func(t *testing.T, d *Dirs) { d.containerLog(t, "a", "b", esc, id1) }},
		"log, cut":        {"/kubepods/pod" + uid + "/" + id1, func(t *testing.T, d *Dirs) { d.containerLog(t, "a", "b", "c", id1[:60]) }},
		"log, two": {"/kubepods/pod" + uid + "/" + id1, func(t *testing.T, d *Dirs) {
			d.containerLog(t, "a", "b", "c", id1)
			d.containerLog(t, "a", "b", "d", id1)
		}},
		"log, no log": {"/kubepods/pod" + uid + "/" + id1, func(t *testing.T, d *Dirs) { write(t, filepath.Join(d.ContainerLogs, "b_a_c-"+id1), "") }},
	} {
		t.Run(name, func(t *testing.T) {
			d := tempDirs(t)
			storage(t, d.Podman, "vfs-containers/containers.json", good)
			c.make(t, &d)
			if got := namesOf(d, c.path); got.Container != "" || got.Pod != "" || got.PodNamespace != "" {
				t.Errorf("%+v", got)
			}
			if got := namesOf(d, "/libpod_parent/libpod-"+id2); got.Container != "good" {
				t.Errorf("the others: %+v", got)
			}
		})
	}
}
