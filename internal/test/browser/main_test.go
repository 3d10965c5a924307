package browser

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
)

// listenEnv makes this program one that listens until its stdin is closed.
const listenEnv = "FINWAIT_TEST_LISTEN"

func TestMain(m *testing.M) {
	if os.Getenv(listenEnv) == "" {
		os.Exit(m.Run())
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print("x")
	_, _ = io.Copy(io.Discard, os.Stdin)
	l.Close()
}

// history is all that the server keeps.
func history(d *driver) (all []map[string]any) {
	d.t.Helper()
	resp, err := http.Get(d.url + "/history")
	d.must(err)
	defer resp.Body.Close()
	d.must(json.NewDecoder(resp.Body).Decode(&all))
	return all
}
