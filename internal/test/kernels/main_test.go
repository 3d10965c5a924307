package main

import (
	"fmt"
	"reflect"
	"testing"
)

// listing is output of apt-cache search. Some of its packages must not be taken for a newer kernel.
const listing = `linux-image-6.1-cloud-amd64 - Linux for x86-64 cloud (meta-package)
linux-image-6.1.0-0.deb11.52-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)
linux-image-6.1.0-9-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)
linux-image-6.1.0-56-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)
linux-image-6.12.94+deb13-cloud-amd64 - Linux 6.12 for x86-64 cloud (signed)
linux-image-6.12.117+deb12-cloud-amd64 - Linux 6.12 for x86-64 cloud (signed)
linux-image-6.12.117+deb13-cloud-amd64 - Linux 6.12 for x86-64 cloud (signed)
linux-binary-7.3.4+deb13-cloud-amd64 - Linux 7.3.4 for x86-64 cloud (kernel image)
linux-modules-7.3.4+deb13-cloud-amd64 - Linux 7.3.4 for x86-64 cloud (modules)
linux-image-6.12.117+deb13-cloud-arm64:arm64 - Linux 6.12 for arm64 cloud (signed)
linux-image-6.1.0-56-cloud-arm64:arm64 - Linux 6.1 for arm64 cloud (signed)
`

func TestNewestOfEachSeries(t *testing.T) {
	want := []kernel{
		{"amd64", "6.1", "6.1.0-56-cloud-amd64", []string{"linux-image-6.1.0-56-cloud-amd64:amd64"}},
		{"amd64", "6.12", "6.12.117+deb13-cloud-amd64", []string{"linux-image-6.12.117+deb13-cloud-amd64:amd64"}},
		{"amd64", "7.3", "7.3.4+deb13-cloud-amd64", []string{"linux-binary-7.3.4+deb13-cloud-amd64:amd64", "linux-modules-7.3.4+deb13-cloud-amd64:amd64"}},
		{"arm64", "6.12", "6.12.117+deb13-cloud-arm64", []string{"linux-image-6.12.117+deb13-cloud-arm64:arm64"}},
	}
	got := newest(listing)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	chosen, missing := choose(got, []string{"7.3", "6.5"})
	if len(chosen) != 1 || chosen[0].series != "7.3" || !reflect.DeepEqual(missing, []string{"6.5"}) {
		t.Errorf("picked %v, missing %v", chosen, missing)
	}
	if _, missing := choose(got[2:3], nil); !reflect.DeepEqual(missing, required) {
		t.Errorf("missing %v, want %v", missing, required)
	}
}

// A test that failed must pass twice to count as passed, and is listed all the same.
func TestFailedOncePassedTwice(t *testing.T) {
	const (
		first = "\x16=== RUN   TestA\n\x16--- FAIL: TestA (0.00s)\n\x16=== RUN   TestB\n\x16--- PASS: TestB (0.00s)\n\x16FAIL\n"
		pass  = "\x16=== RUN   TestA\n\x16--- PASS: TestA (0.00s)\n"
		fail  = "\x16=== RUN   TestA\n\x16--- FAIL: TestA (0.00s)\n"
	)
	for _, c := range []struct {
		second string
		exit   int
		bad    bool
	}{
		{pass + pass + "\x16PASS\n", 0, false},
		{pass + fail + "\x16FAIL\n", 1, true},
		{fail + pass + "\x16FAIL\n", 1, true},
	} {
		r := new(result)
		out := fmt.Sprintf("%shooks fentry\n%sagain\n%sthat was again\n\nexit status %d\n", pass+"\x16PASS\n", first, c.second, c.exit)
		if err := r.judgeTests(out); err != nil {
			t.Fatal(err)
		}
		if set := r.sets[1]; r.bad() != c.bad || (len(set.again) == 0) != c.bad || set.passed+len(set.failed) != 2 {
			t.Errorf("%q: %+v", c.second, set)
		}
	}
}

// A machine that prints nothing has not passed.
func TestOnlyTheExitMarkPasses(t *testing.T) {
	for _, out := range []string{"", "\x16=== RUN   TestA\n\x16--- PASS: TestA (0.00s)\nPASS\n"} {
		if err := new(result).judgeTests(out); err == nil {
			t.Errorf("%q passed", out)
		}
	}
	const refusal = "this kernel has no ring buffer, which came with Linux 5.8: use a kernel from 5.15 on"
	for out, ok := range map[string]bool{
		refusal + "\n\nexit status 1\n":      true,
		refusal + "\n\nexit status 0\n":      false,
		refusal + "\n":                       false,
		"invalid argument\nexit status 1\n":  false,
		"panic: oh\n\ngoroutine 1 [running]": false,
	} {
		if err := new(result).judgeRefusal(out); (err == nil) != ok {
			t.Errorf("%q: %v", out, err)
		}
	}
}
