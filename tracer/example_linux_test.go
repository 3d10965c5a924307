package tracer_test

import (
	"io"
	"os"
	"strings"
	"testing"
)

// The example of the package prints what it says; who may not trace is told so.
func TestExample(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	Example()
	os.Stdout = stdout
	w.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	got, want := string(b), "CLOSED -> SYN_SENT client\nSYN_SENT -> ESTABLISHED client\n"
	if os.Geteuid() != 0 {
		want = "this needs more rights: ["
	}
	if !strings.HasPrefix(got, want) || os.Geteuid() == 0 && got != want {
		t.Errorf("it prints %q, want %q", got, want)
	}
}
