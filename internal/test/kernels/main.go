// Command kernels runs the live tests on Debian's cloud kernels. Each kernel runs in a virtual
// machine without hardware support, so that the command works on any host.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"finwait/tracer"
)

// atOnce is how many machines run at the same time. It is one more than the two CPUs of a
// host, because each machine waits a fifth of the time.
const atOnce = 3

// required are the series that must exist, because Debian supports them for years.
var required = []string{"6.1", "6.12", armSeries + "-arm64"}

func main() {
	pick := flag.String("kernels", "", "series to run, such as \"6.1 7.3 6.12-arm64\" (default: all that the archive has)")
	run := flag.String("run", "", "run only the tests that match, as in go test -run")
	docs := flag.String("docs", "", "write the table to this file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	began := time.Now()
	results, err := test(ctx, strings.Fields(*pick), *run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if *docs != "" {
		if err := os.WriteFile(*docs, []byte(document(results)), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fmt.Print("\n", table(results), "\n", costs(results), "\n", skips(results))
	failed := 0
	for _, r := range results {
		if r.bad() {
			failed++
		}
	}
	fmt.Printf("kernels: %d passed, %d failed in %v\n", len(results)-failed, failed, time.Since(began).Round(time.Second))
	if failed > 0 {
		os.Exit(1)
	}
}

// test runs the tests on the kernels of the picked series.
func test(ctx context.Context, picked []string, run string) ([]*result, error) {
	if err := lookForTools(picked); err != nil {
		return nil, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	arch, err := openArchive(filepath.Join(cache, "finwait/kernels"))
	if err != nil {
		return nil, err
	}
	available, err := arch.kernels()
	if err != nil {
		return nil, err
	}
	kernels, missing := choose(available, picked)
	var results []*result
	for _, series := range missing {
		fmt.Printf("%s: the archive has no such kernel\n", series)
		if slices.Contains(required, series) {
			results = append(results, &result{kernel: kernel{series: series, version: series}, err: fmt.Errorf("not in the archive")})
		}
	}

	logs, err := os.MkdirTemp("", "finwait-kernels-")
	if err != nil {
		return nil, err
	}
	fmt.Printf("what the machines print goes to %s\n", logs)
	userlands := make(map[string][]file)
	for _, k := range kernels {
		if userlands[k.arch] != nil {
			continue
		}
		if userlands[k.arch], err = userland(k.arch); err != nil {
			return nil, err
		}
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	first := len(results)
	for _, k := range slices.Backward(kernels) { // the newest take longest
		r := &result{kernel: k}
		results = slices.Insert(results, first, r)
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			began := time.Now()
			r.run(ctx, arch, userlands[k.arch], run, filepath.Join(logs, k.version))
			r.took = time.Since(began)
			fmt.Println(r)
		})
	}
	wg.Wait()
	if slices.ContainsFunc(results, (*result).bad) {
		return results, nil
	}
	return results, os.RemoveAll(logs)
}

// choose returns the kernels of the picked series, by default of all series. missing are the
// picked or required series that the archive does not have.
func choose(available []kernel, picked []string) (chosen []kernel, missing []string) {
	want := picked
	if len(want) == 0 {
		chosen, want = available, required
	}
	for _, series := range want {
		i := slices.IndexFunc(available, func(k kernel) bool { return k.name() == series })
		switch {
		case i < 0:
			missing = append(missing, series)
		case len(picked) > 0:
			chosen = append(chosen, available[i])
		}
	}
	return chosen, missing
}

// run boots the kernel and reads the results of the tests.
func (r *result) run(ctx context.Context, arch *archive, userland []file, tests, log string) {
	dir, err := arch.fetch(r.kernel)
	if err != nil {
		r.err = err
		return
	}
	job := "test"
	if compareVersions(r.kernel.series, tracer.MinimumKernel) < 0 {
		job = "refuse"
	}
	r.err = r.boot(ctx, dir, userland, job, tests, log)
	if errors.Is(r.err, errStopped) {
		// The emulator sometimes corrupts a register (machine()).
		r.again = true
		r.err = r.boot(ctx, dir, userland, job, tests, log+"-again")
	}
}

func (r *result) boot(ctx context.Context, dir string, userland []file, job, tests, log string) error {
	out, err := boot(ctx, r.kernel, dir, userland, job, tests, log)
	if err != nil {
		return err
	}
	if job == "refuse" {
		return r.judgeRefusal(out)
	}
	return r.judgeTests(out)
}
