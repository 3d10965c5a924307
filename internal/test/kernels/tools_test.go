package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is missing is named with the packages to install, and no emulator is asked for
// that the picked kernels do not need.
func TestLookForTools(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	install := func(program string) {
		if err := os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range []string{"apt-get", "apt-cache", "dpkg-deb", "xz"} {
		install(program)
	}
	if _, err := os.Stat(keyring); err != nil {
		t.Skip("this is not Debian: ", err)
	}
	const x86, arm = "missing: qemu-system-x86_64; on Debian run: apt-get install qemu-system-x86",
		"missing: qemu-system-aarch64; on Debian run: apt-get install qemu-system-arm"
	check := func(picked, want string) {
		t.Helper()
		got := ""
		if err := lookForTools(strings.Fields(picked)); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("picked %q: %q, want %q", picked, got, want)
		}
	}
	check("6.1 7.3", x86)
	check("6.12-arm64", arm)
	check("", "missing: qemu-system-x86_64, qemu-system-aarch64; on Debian run: apt-get install qemu-system-arm qemu-system-x86")
	install(emulators["amd64"].program)
	check("6.1 7.3", "")
	check("6.1 6.12-arm64", arm)
	check("", arm)
}
