package model

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// The words of a request and a reply of testdata/harness.c, in the same order.

type settings struct {
	SeesRearms, SeesResets, Raw, NoTotals, Stream, Audit, SplitBy, LocalPort, NetNS, MinDuration, Minisocks, HZ uint64
}

type code uint64

const (
	opNothing code = iota
	opSetState
	opTimerStart
	opTimerCancel
	opTimerExpire
	opKfreeSKB
	opTwskAlloc
	opTwskSchedule
	opTwskKill
	opExisting
	opSendReset
	opErrorReport
	opAttached
	opNewSock
	opFreeSock
	opNewMini
	opSweep
)

const (
	noObject = iota
	aSock
	aMini
)

type op struct {
	Code                                     code
	Object, Slot, Nest                       uint64
	Now, Jiffies, CPU, FreshCookie           uint64
	Stack                                    [4]uint64
	Frames                                   int64
	FailUpdates, FailStorage, RingRoom       uint64
	PID, Kthread                             uint64
	Parent                                   uint64
	ZeroCookie, CopyCookie                   uint64
	From, To, Skip                           uint64
	State, Family, Sport, Dport              uint64
	NetNS, TWAlive                           uint64
	InetSport, Protocol, Shutdown, Err       uint64
	Held, Linger2, PacketsOut, Unacked       uint64
	Seq, SoftErr, Unread, LingerZero, Repair uint64
	Retransmits, Probes, UserTimeout         uint64
	Exiting, Overflows, Segment              uint64
	Subflow, Named                           uint64
	Substate, Expires, Pending               uint64
	Timeo, Rearm                             uint64
}

type account struct {
	Seen, Filtered, Delivered, RingFull, MapFull uint64
	Rescued, BirthsRescued, Missed, UnwindFailed uint64
}

// result is the result of one op.
type result struct {
	Op                           uint64
	FailedUpdates, FailedStorage uint64
	Cookie                       uint64 // of the object, after the op
	Minisocks, Sockets           uint64 // number of records, after the op
	Account                      account
	NumEvents                    uint64
}

type event struct {
	Time, Since, Cookie, From, To, Precision, Role, Reason, Flags    uint64
	Detail, Errno, Retransmits                                       uint64
	Hook, Rearms, Owner, Holder, Closer, Sport, Dport, Family, NetNS uint64
	NetNSCookie                                                      uint64
	Saddr, Daddr                                                     uint64 // IPv4
	OwnerComm, CloserComm                                            [16]byte
}

type netnsTotals struct {
	SynSent, NoSyn, PassiveOpens, AttemptFails, MaybeFails, EstabResets uint64
	Established, CloseWait                                              int64
	Minisocks, Gone, Reused, TimeWaitOverflow, Lost                     uint64
}

type totals struct {
	Edges             [4][16][16]uint64 // by role
	Ends              [4][16][32]uint64 // by role
	Details           [16][32]uint64
	Live              [16]int64
	Rearms, Ungrouped uint64
	Timed             [21]uint64 // durations counted, by state; then handshakes, then sessions by role
	GroupLive         [16]int64
	NetNS             [4]netnsTotals // by slot
}

// outcome has the results of a sequence, in the order of its ops.
type outcome struct {
	results []result
	events  [][]event
	totals  totals
}

const harnessEnv = "FINWAIT_MODEL_HARNESS"

func TestMain(m *testing.M) {
	os.Exit(withHarness(m.Run))
}

// withHarness compiles the programs once, for this process and for its fuzz workers.
func withHarness(run func() int) int {
	if os.Getenv(harnessEnv) != "" {
		return run()
	}
	dir, err := os.MkdirTemp("", "model")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "harness")
	if err := build(bin, "../../../bpf"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		if errors.Is(err, errNoCompiler) && os.Getenv("CI") == "" {
			return run() // each test skips, and says so
		}
		return 1
	}
	os.Setenv(harnessEnv, bin)
	return run()
}

var errNoCompiler = errors.New("there is no clang-19 here")

func build(bin, bpf string, flags ...string) error {
	cc := os.Getenv("CLANG")
	if cc == "" {
		cc = "clang-19"
	}
	if _, err := exec.LookPath(cc); err != nil {
		return fmt.Errorf("%w: apt-get install clang-19 libclang-rt-19-dev libbpf-dev (%v)", errNoCompiler, err)
	}
	args := append([]string{
		"-O1", "-g", "-Wall", "-Werror", "-Wno-unused", "-Wno-unknown-attributes", "-Wno-ignored-attributes",
		// The programs compute offsets as addresses of fields of a null pointer.
		"-fsanitize=address,undefined", "-fno-sanitize=null,alignment,object-size", "-fno-sanitize-recover=all",
		"-I", bpf, "-I", "testdata", "-o", bin,
	}, flags...)
	out, err := exec.Command(cc, append(args, "testdata/harness.c")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("compile the programs for the host: %w\n%s", err, out)
	}
	return nil
}

// A harness is a process that runs sequences. It is started again after a crash.
type harness struct {
	bin    string
	cmd    *exec.Cmd // nil: no process runs
	in     io.WriteCloser
	out    io.Reader
	stderr bytes.Buffer
}

func open(t testing.TB, bin string) *harness {
	t.Helper()
	if bin == "" {
		t.Skip("skipped: there is no clang-19 here to compile the programs with")
	}
	h := &harness{bin: bin}
	t.Cleanup(func() {
		if err := h.end(); err != nil {
			t.Errorf("the harness ended: %v\n%s", err, &h.stderr)
		}
	})
	return h
}

func (h *harness) start() error {
	h.stderr.Reset()
	h.cmd = exec.Command(h.bin)
	h.cmd.Stderr = &h.stderr
	in, err := h.cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	h.in, h.out = in, bufio.NewReader(out)
	return h.cmd.Start()
}

// end waits for the process. The error has the output of the sanitizers.
func (h *harness) end() error {
	if h.cmd == nil {
		return nil
	}
	h.in.Close()
	err := h.cmd.Wait()
	h.cmd = nil
	return err
}

// run runs the ops in the harness. After an error the harness has ended.
func (h *harness) run(set settings, ops []op) (*outcome, error) {
	if h.cmd == nil {
		if err := h.start(); err != nil {
			return nil, err
		}
	}
	var req bytes.Buffer
	for _, v := range []any{uint64(len(ops)), set, ops} {
		if err := binary.Write(&req, binary.LittleEndian, v); err != nil {
			return nil, err
		}
	}
	// If the two sides do not agree on the number of words, each waits for the other.
	defer time.AfterFunc(time.Minute, func() { _ = h.cmd.Process.Kill() }).Stop()
	sent := make(chan error, 1)
	go func() {
		_, err := h.in.Write(req.Bytes())
		sent <- err
	}()
	o := &outcome{results: make([]result, len(ops)), events: make([][]event, len(ops))}
	for range ops {
		var r result
		if err := binary.Read(h.out, binary.LittleEndian, &r); err != nil {
			return nil, err
		}
		events := make([]event, r.NumEvents)
		if err := binary.Read(h.out, binary.LittleEndian, events); err != nil {
			return nil, err
		}
		o.results[r.Op], o.events[r.Op] = r, events
	}
	if err := binary.Read(h.out, binary.LittleEndian, &o.totals); err != nil {
		return nil, err
	}
	return o, <-sent
}
