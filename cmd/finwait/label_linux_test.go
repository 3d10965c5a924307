package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"
)

// podLogs makes what the kubelet makes in /var/log for a container of a pod.
func podLogs(t *testing.T, namespace, pod, uid, container, id string) {
	t.Helper()
	for _, path := range []string{
		"/var/log/pods/" + namespace + "_" + pod + "_" + uid,
		"/var/log/containers/" + pod + "_" + namespace + "_" + container + "-" + id + ".log",
	} {
		if err := os.Mkdir(filepath.Dir(path), 0o755); err == nil {
			t.Cleanup(func() { _ = os.Remove(filepath.Dir(path)) }) // another test may use it by now
		}
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
		})
	}
}

// heldIn is a process in a cgroup, with a listener and a connection, in a namespace of its own.
func heldIn(t *testing.T, cgroup string) (*holder, *sandbox.NS) {
	t.Helper()
	in, ns := testnet.Cgroup(t, cgroup), sandbox.New(t)
	h := startHolder(t, ns, "", func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(in.Fd())}
	})
	return h, ns
}

// A pod, its container and a unit pick their own sockets and no others, in each command.
func TestNameFilters(t *testing.T) {
	t.Parallel()
	// All digits, and the names, are this run's: what is called so is this test's.
	unique := fmt.Sprintf("%012x", os.Getpid())
	uid, id, other := "12345678-0000-4000-8000-"+unique, unique+strings.Repeat("a", 52), unique+strings.Repeat("b", 52)
	pod, container, unit := "web-"+unique, "nginx-"+unique, "finwait-"+unique+".service"
	podLogs(t, "shop", pod, uid, container, id)
	top := "/finwait" + unique + ".slice"
	inPod := top + "/kubepods/pod" + uid
	main, mainNS := heldIn(t, inPod+"/"+id)
	side, sideNS := heldIn(t, inPod+"/"+other+"/sub.service")
	served, servedNS := heldIn(t, top+"/"+unit+"/worker")
	all := map[string]*sandbox.NS{"main": mainNS, "side": sideNS, "served": servedNS}

	for args, want := range map[string]string{
		"--pod " + pod:              "main side",
		"--pod shop/" + pod:         "main side",
		"--pod " + uid:              "main side",
		"--container " + container:  "main",
		"--container " + other[:13]: "side",
		"--unit " + unit:            "served",
		"--unit " + strings.TrimSuffix(unit, ".service") + " --netns " + pod:                        "", // of all flags one says no
		"--pod " + pod + " --container " + container:                                                "main",
		"--cgroup " + inPod + "/" + other + " --pod " + pod:                                         "side",
		"--cgroup " + inPod + "/" + id + " --cgroup " + top + "/" + unit + "/worker --unit " + unit: "served",
		"--netns shop/" + pod:                  "", // two have it
		"--netns " + container:                 "main",
		"--netns " + id[:13] + " --pod " + pod: "main",
		"--netns " + unit:                      "served",
	} {
		var stdout, stderr bytes.Buffer
		code := run(append([]string{"ls", "--sockets", "-o", "json"}, strings.Fields(args)...), &stdout, &stderr)
		if strings.HasPrefix(args, "--netns shop/") || strings.Contains(args, "--netns "+pod) {
			if code != exitUsage || !strings.Contains(stderr.String(), "2 network namespaces are called") {
				t.Errorf("%s: exit code %d: %s", args, code, &stderr)
			}
			continue
		}
		got := make(map[float64]int)
		for _, l := range decodeLines(t, stdout.Bytes()) {
			got[l["netns"].(float64)]++
		}
		for name, ns := range all {
			n := 0
			if strings.Contains(want, name) {
				n = 3 // a listener and both ends
			}
			if code != exitOK || got[float64(ns.Inode)] != n {
				t.Errorf("%s: exit code %d, %d sockets of %s, want %d: %s", args, code, got[float64(ns.Inode)], name, n, &stderr)
			}
			delete(got, float64(ns.Inode))
		}
		if len(got) > 0 {
			t.Errorf("%s: and those of %v", args, got)
		}
	}

	for args, say := range map[string]string{
		"--pod we-" + unique:                             "no pod is called",
		"--pod web-1" + unique:                           "shop/" + pod,
		"--container nginx":                              container,
		"--container " + id[:11]:                         "no container is called",
		"--unit worker":                                  "no unit is called",
		"--pod " + pod + " --unit " + unit:               "no cgroup is in all",
		"--pod " + pod + " --cgroup " + top + "/" + unit: "no cgroup is in all",
	} {
		for _, command := range []string{"ls", "trace", "stat"} {
			var stdout, stderr bytes.Buffer
			code := run(append([]string{command}, strings.Fields(args)...), &stdout, &stderr)
			if code != exitUsage || stdout.Len() > 0 || !strings.Contains(stderr.String(), say) || strings.Count(stderr.String(), "\n") != 1 {
				t.Errorf("%s %s: exit code %d, %q, said %q, want %q", command, args, code, &stdout, &stderr, say)
			}
		}
	}

	for args, want := range map[string]string{"ls --unit ": unit, "trace --pod ": "shop/" + pod, "stat --container ": container, "--pod ": "shop/" + pod} {
		var stdout, stderr bytes.Buffer
		if code := run(append([]string{"__complete"}, strings.Split(args, " ")...), &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), want+"\n") {
			t.Errorf("%q: exit code %d, %q without %q", args, code, &stdout, want)
		}
	}

	traced := startFinwait(t, "trace", "-o", "json", "--container", container)
	counted := startFinwait(t, "stat", "-o", "json", "--pod", pod)
	for _, p := range []*process{traced, counted} {
		p.awaitSaid(t, "Ctrl-C")
	}
	main.close()
	side.close()
	served.close()
	time.Sleep(100 * time.Millisecond) // FIN_WAIT_2 is not over when the process is
	traced.finish(t)
	counted.finish(t)
	shown := 0
	for _, l := range decodeLines(t, traced.stdout.Bytes()) {
		if l["event"] != "transition" {
			continue
		}
		if shown++; l["netns"] != float64(mainNS.Inode) {
			t.Errorf("traced %v", l)
		}
	}
	if shown < 6 {
		t.Errorf("%d transitions: %s%s", shown, &traced.stdout, traced.said())
	}
	for _, s := range statObjects(t, counted.stdout.String())[0].States {
		if s.State == "TIME_WAIT" && s.Entered != 2 {
			t.Errorf("%d TIME_WAITs were counted, want one of each container", s.Entered)
		}
	}
}

// With --wait a name may come after finwait. It is an error without, and Ctrl-C ends the wait.
func TestWaitForName(t *testing.T) {
	t.Parallel()
	unit := fmt.Sprintf("finwait-late-%012x.service", os.Getpid())
	p := startFinwait(t, "trace", "-o", "json", "--wait", "--unit", unit)
	p.awaitSaid(t, "waiting: no unit is called")
	h, ns := heldIn(t, fmt.Sprintf("/finwait-late-%012x.slice/%s", os.Getpid(), unit))
	p.awaitSaid(t, "Ctrl-C")
	h.close()
	time.Sleep(100 * time.Millisecond)
	p.finish(t)
	shown := 0
	for _, l := range decodeLines(t, p.stdout.Bytes()) {
		if l["event"] == "transition" && l["netns"] == float64(ns.Inode) {
			shown++
		}
	}
	if shown < 3 || strings.Count(p.said(), "waiting: ") != 1 {
		t.Errorf("%d transitions: %s%s", shown, &p.stdout, p.said())
	}

	p = startFinwait(t, "stat", "--wait", "--netns", "finwait-never-there")
	p.awaitSaid(t, "waiting: network namespace")
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err == nil || p.ProcessState.ExitCode() != exitFailure || !strings.Contains(p.said(), "interrupted: nothing was traced") {
		t.Errorf("exit code %d: %s", p.ProcessState.ExitCode(), p.said())
	}
}
