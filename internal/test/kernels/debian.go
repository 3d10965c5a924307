package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The suites that have cloud kernels. Cloud kernels are small and have BTF.
var (
	suites         = []string{"bullseye", "bookworm", "trixie", "trixie-backports", "sid"}
	securitySuites = []string{"bullseye-security", "bookworm-security", "trixie-security"}
)

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// armSeries is the one series that is also tested on arm64. Debian supports it for years. An
// emulated arm64 machine takes about as long as an amd64 one.
const armSeries = "6.12"

// indexAge is how old the package index may become before it is downloaded again.
const indexAge = 12 * time.Hour

// modules are the kernel modules that the tests need, in the order of loading.
var modules = []string{"inet_diag.ko", "tcp_diag.ko"}

// A kernel is the newest version of a series for an architecture.
type kernel struct {
	arch     string // as Debian and Go call it
	series   string // 6.12
	version  string // as uname -r prints it
	packages []string
}

// name is what picks the kernel on the command line: 6.12, or 6.12-arm64.
func (k kernel) name() string {
	if k.arch == "arm64" {
		return k.series + "-" + k.arch
	}
	return k.series
}

func (k kernel) String() string {
	return strings.TrimSuffix(k.version, "-cloud-"+k.arch) + " " + k.arch
}

// An archive is Debian's archive, with a package index apart from the host's.
type archive struct{ dir string }

// openArchive reads the index of all suites from the mirror of the host's apt.
func openArchive(dir string) (*archive, error) {
	a := &archive{dir}
	for _, sub := range []string{"apt/lists/partial", "apt/cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	targets, err := output(exec.Command("apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"))
	if err != nil {
		return nil, err
	}
	mirror := make(map[string]string)
	for line := range strings.Lines(targets) {
		if label, uri, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			mirror[label] = uri
		}
	}
	if mirror["Debian"] == "" || mirror["Debian-Security"] == "" {
		return nil, errors.New("apt knows no mirror of Debian and its security updates: run apt-get update, on Debian")
	}
	var sources strings.Builder
	for _, suite := range append(slices.Clone(suites), securitySuites...) {
		label := "Debian"
		if slices.Contains(securitySuites, suite) {
			label = "Debian-Security"
		}
		fmt.Fprintf(&sources, "deb [arch=amd64,arm64 signed-by=%s] %s %s main\n", keyring, mirror[label], suite)
	}
	stamp := filepath.Join(dir, "apt/updated")
	read, _ := os.ReadFile(a.sources()) // an error means that no index has been read yet
	if st, err := os.Stat(stamp); err == nil && time.Since(st.ModTime()) < indexAge && string(read) == sources.String() {
		return a, nil
	}
	if err := os.WriteFile(a.sources(), []byte(sources.String()), 0o644); err != nil {
		return nil, err
	}
	if _, err := output(a.apt("apt-get", "update")); err != nil {
		return nil, err
	}
	return a, os.WriteFile(stamp, nil, 0o644)
}

func (a *archive) sources() string { return filepath.Join(a.dir, "apt/sources.list") }

// apt returns a command of apt that uses this index instead of the host's.
func (a *archive) apt(name string, args ...string) *exec.Cmd {
	options := []string{
		"-q",
		"-o", "Dir::Etc::SourceList=" + a.sources(),
		"-o", "Dir::Etc::SourceParts=/dev/null",
		"-o", "Dir::State::Lists=" + filepath.Join(a.dir, "apt/lists"),
		"-o", "Dir::State::Status=/dev/null",
		"-o", "Dir::Cache=" + filepath.Join(a.dir, "apt/cache"),
		"-o", "APT::Architectures::=amd64", "-o", "APT::Architectures::=arm64",
		"-o", "Acquire::Languages=none",
		"-o", "Acquire::Check-Valid-Until=false", // a suite that is no longer updated has an old date
		"-o", "APT::Sandbox::User=root", // the cache is in a home directory
	}
	return exec.Command(name, append(options, args...)...)
}

// packageName matches the packages of a kernel, such as linux-image-6.1.0-56-cloud-amd64. From
// 6.19 on linux-binary has the image, linux-modules has the modules, and linux-image is empty.
var packageName = regexp.MustCompile(`^linux-(image|binary|modules)-((\d+\.\d+)\.\d\S*-cloud-(amd64|arm64))(?::\w+)? `)

// kernels lists the newest kernel of each series, oldest series first. The only arm64 kernel,
// that of armSeries, is the last.
func (a *archive) kernels() ([]kernel, error) {
	list, err := output(a.apt("apt-cache", "search", "--names-only", `^linux-(image|binary|modules)-.*-cloud-(amd64|arm64)$`))
	if err != nil {
		return nil, err
	}
	return newest(list), nil
}

func newest(list string) []kernel {
	series := make(map[string]kernel)
	for line := range strings.Lines(list) {
		m := packageName.FindStringSubmatch(line)
		if m == nil || m[4] == "arm64" && m[3] != armSeries {
			continue
		}
		key := m[3] + m[4]
		k := series[key]
		switch compareVersions(m[2], k.version) {
		case 1:
			k = kernel{arch: m[4], series: m[3], version: m[2]}
			fallthrough
		case 0:
			k.packages = append(k.packages, "linux-"+m[1]+"-"+m[2]+":"+m[4])
		}
		series[key] = k
	}
	var all []kernel
	for _, k := range series {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b kernel) int {
		return cmp.Or(strings.Compare(a.arch, b.arch), compareVersions(a.series, b.series))
	})
	return all
}

var number = regexp.MustCompile(`\d+`)

// compareVersions compares the numbers in two versions, from left to right.
func compareVersions(a, b string) int {
	numbers := func(s string) (list []int) {
		s, _, _ = strings.Cut(s, "-cloud-")
		for _, digits := range number.FindAllString(s, -1) {
			n, _ := strconv.Atoi(digits) // digits always parse
			list = append(list, n)
		}
		return list
	}
	return slices.Compare(numbers(a), numbers(b))
}

// fetch downloads and unpacks a kernel, unless that has been done. It returns the directory
// with vmlinuz, the modules, and busybox.
func (a *archive) fetch(k kernel) (string, error) {
	dir := filepath.Join(a.dir, k.version)
	if _, err := os.Stat(filepath.Join(dir, "busybox")); err == nil {
		return dir, nil
	}
	tmp, err := os.MkdirTemp(a.dir, "unpack-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	download := a.apt("apt-get", append([]string{"download", "busybox-static:" + k.arch}, k.packages...)...)
	download.Dir = tmp
	if _, err := output(download); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil {
		return "", err
	}
	for _, deb := range debs {
		if err := unpack(deb, tmp); err != nil {
			return "", fmt.Errorf("unpack %s: %w", filepath.Base(deb), err)
		}
		if err := os.Remove(deb); err != nil {
			return "", err
		}
	}
	for _, name := range []string{"vmlinuz", "busybox"} {
		if _, err := os.Stat(filepath.Join(tmp, name)); err != nil {
			return "", fmt.Errorf("no %s in %v", name, k.packages)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err // another run may have made the directory
	}
	return dir, nil
}

// unpack extracts the needed files of a package.
func unpack(deb, dir string) error {
	files, err := output(exec.Command("dpkg-deb", "--fsys-tarfile", deb))
	if err != nil {
		return err
	}
	for t := tar.NewReader(strings.NewReader(files)); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		name, compressed := strings.CutSuffix(filepath.Base(h.Name), ".xz")
		if strings.HasPrefix(name, "vmlinuz") {
			name = "vmlinuz"
		} else if !strings.HasSuffix(h.Name, "/bin/busybox") && !slices.Contains(modules, name) {
			continue
		}
		b, err := io.ReadAll(t)
		if err == nil && compressed {
			xz := exec.Command("xz", "-dc")
			xz.Stdin = bytes.NewReader(b)
			var out string
			out, err = output(xz)
			b = []byte(out)
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return err
		}
	}
}

// output runs a command and returns its stdout. The error has its stderr.
func output(cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}
