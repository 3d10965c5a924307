package label

import "testing"

// The names of pods as Kubernetes makes them, and some that it does not make.
func TestWorkload(t *testing.T) {
	for pod, want := range map[string]string{
		"web-6d4cf56db6-abc12":       "web-6d4cf56db6-abc12", // "a" and "1" are not of the alphabet
		"web-6d4cf56db6-xk7z9":       "web",
		"my-api-7f9c8d5b44-2l6tq":    "my-api",
		"node-exporter-x7k2p":        "node-exporter",
		"backup-28391042-zz5kq":      "backup-28391042", // a CronJob's Job
		"postgres-0":                 "postgres",
		"postgres-12":                "postgres",
		"etcd-control-plane":         "etcd-control-plane",
		"kube-proxy":                 "kube-proxy",
		"-0":                         "-0",
		"":                           "",
		"coredns-autoscaler-5fhhkcn": "coredns-autoscaler-5fhhkcn",
	} {
		if got := Workload(pod); got != want {
			t.Errorf("%q: %q, want %q", pod, got, want)
		}
	}
}
