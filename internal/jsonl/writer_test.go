package jsonl

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"finwait/tracer"
)

func comm(name string) (c tracer.Comm) {
	copy(c[:15], name)
	return c
}

// full is a disk with no room left.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func sample() tracer.Transition {
	return tracer.Transition{
		Time:  time.Date(2026, 11, 22, 10, 24, 1, 123456789, time.UTC),
		Ktime: 1519643466000, Cookie: 4098, NetNS: 4026531840, NetNSCookie: 8193,
		Local: netip.MustParseAddrPort("127.0.0.1:54334"), Remote: netip.MustParseAddrPort("127.0.0.1:33403"),
		From: tracer.FinWait2, To: tracer.TimeWait, Duration: 43159000, Precision: tracer.PrecisionExact,
		Role: tracer.RoleClient, Owner: tracer.Owner{Process: tracer.Process{PID: 11054, Comm: comm("python3")}, CgroupID: 1},
		Closer: tracer.Process{PID: 11054, Comm: comm("python3")},
		Reason: tracer.ReasonFinReceived, Source: tracer.SourceMinisock,
	}
}

func jsonOf(t *testing.T, tr tracer.Transition) string {
	t.Helper()
	var out bytes.Buffer
	if err := NewWriter(&out).Transition(&tr); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// The contract, to the letter.
func TestJSON(t *testing.T) {
	const want = `{"time":"2026-11-22T10:24:01.123456789Z","ktime_ns":1519643466000,"event":"transition",` +
		`"cookie":4098,"netns":4026531840,"netns_cookie":8193,"family":"ipv4",` +
		`"local_addr":"127.0.0.1","local_port":54334,"remote_addr":"127.0.0.1","remote_port":33403,` +
		`"from":"FIN_WAIT_2","to":"TIME_WAIT","duration_ns":43159000,"precision":"exact",` +
		`"role":"client","owner":{"pid":11054,"comm":"python3","uid":0,"cgroup_id":1,"holder":false},"closer":{"pid":11054,"comm":"python3"},"handler":null,"rst_by":null,` +
		`"reason":"fin_received","detail":"","errno":null,"retransmits":null,"rearms":0,"source":"minisock"}` + "\n"
	if got := jsonOf(t, sample()); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

// A disk that is full ends the run: the sink says so.
func TestJSONWriteError(t *testing.T) {
	tr := sample()
	s := NewWriter(full{})
	for range 2 {
		if err := s.Transition(&tr); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("error %v, want ENOSPC", err)
		}
	}
}

// What is not known is null, never 0.
func TestJSONUnknown(t *testing.T) {
	tr := sample()
	tr.Duration, tr.Precision, tr.Role = 0, tracer.PrecisionUnknown, tracer.RoleUnknown
	tr.Owner, tr.Closer = tracer.Owner{}, tracer.Process{}
	got := jsonOf(t, tr)
	for _, want := range []string{`"duration_ns":null,"precision":"unknown"`, `"role":null,"owner":null,"closer":null`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}

// A process can have any name, and the longest line is still one object.
func TestJSONHostile(t *testing.T) {
	tr := sample()
	tr.Local = netip.MustParseAddrPort("[2001:db8:1111:2222:3333:4444:5555:6666]:65535")
	tr.Remote = tr.Local
	tr.Ktime, tr.Duration, tr.Cookie = math.MaxInt64, math.MaxInt64, math.MaxUint64
	tr.Owner.PID, tr.Owner.UID, tr.Owner.CgroupID, tr.Rearms = math.MaxUint32, math.MaxUint32, math.MaxUint64, math.MaxUint32
	for _, name := range []string{"\x01\x02\x03\x04\x05\x06\x07\x08\x0e\x0f\x10\x11\x12\x13\x14", `"},"pid":0,"":"`, `\`, "\xff\xfe", "naïve", " "} {
		tr.Owner.Comm, tr.Closer.Comm = comm(name), comm(name)
		line := jsonOf(t, tr)
		var got struct {
			Owner, Closer struct{ Comm string }
			Local_addr    string
			Duration_ns   int64
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil || strings.Count(line, "\n") != 1 {
			t.Errorf("%q: %v", line, err)
		}
		if want := strings.ToValidUTF8(name, "\ufffd"); want == name && (got.Owner.Comm != want || got.Closer.Comm != want) {
			t.Errorf("%q came out as %q and %q", name, got.Owner.Comm, got.Closer.Comm)
		}
		if got.Local_addr != tr.Local.Addr().String() || got.Duration_ns != math.MaxInt64 {
			t.Errorf("%s", line)
		}
	}
}

// The second is kept from one line to the next.
func TestJSONTime(t *testing.T) {
	s := NewWriter(nil)
	at := time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)
	for _, d := range []time.Duration{0, 1, 10, 999_999_999, time.Second, time.Second + 120_000_000, 500, -1, -time.Hour, 0, time.Unix(0, 0).Sub(at), time.Unix(-1, 5).Sub(at)} {
		want := at.Add(d).Format(TimeFormat)
		if got := string(s.appendTime(nil, at.Add(d))); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
