package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// A tool is a program that is needed, and the Debian package that has it.
type tool struct{ program, pkg string }

// The emulator of each architecture.
var emulators = map[string]tool{
	"amd64": {"qemu-system-x86_64", "qemu-system-x86"},
	"arm64": {"qemu-system-aarch64", "qemu-system-arm"},
}

// needed lists the tools for the picked series; without any all are tested. An arm64
// emulator is needed only if an arm64 kernel was picked.
func needed(picked []string) []tool {
	tools := []tool{{"apt-get", "apt"}, {"apt-cache", "apt"}, {"dpkg-deb", "dpkg"}, {"xz", "xz-utils"}}
	for _, arch := range []string{"amd64", "arm64"} {
		if len(picked) == 0 || slices.ContainsFunc(picked, func(series string) bool { return archOf(series) == arch }) {
			tools = append(tools, emulators[arch])
		}
	}
	return tools
}

// archOf is the architecture that the name of a kernel ends with, as in 6.12-arm64.
func archOf(name string) string {
	if strings.HasSuffix(name, "-arm64") {
		return "arm64"
	}
	return "amd64"
}

// lookForTools names the missing programs, and the packages to install.
func lookForTools(picked []string) error {
	var programs, packages []string
	for _, t := range needed(picked) {
		if _, err := exec.LookPath(t.program); err != nil {
			programs = append(programs, t.program)
			packages = append(packages, t.pkg)
		}
	}
	if _, err := os.Stat(keyring); err != nil {
		programs = append(programs, keyring)
		packages = append(packages, "debian-archive-keyring")
	}
	if len(programs) == 0 {
		return nil
	}
	slices.Sort(packages)
	return fmt.Errorf("missing: %s; on Debian run: apt-get install %s",
		strings.Join(programs, ", "), strings.Join(slices.Compact(packages), " "))
}
