package sockdiag

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// message builds a message of the kernel: its fields by offset, then its attributes.
func message(family, state, timer uint8, uid, inode uint32, attributes ...[]byte) []byte {
	b := make([]byte, sizeofMsg)
	b[0], b[1], b[2], b[3] = family, state, timer, 7
	binary.BigEndian.PutUint16(b[4:], 443)
	binary.BigEndian.PutUint16(b[6:], 50000)
	copy(b[8:], []byte{10, 0, 0, 1})
	copy(b[24:], []byte{192, 0, 2, 9})
	if family == familyIPv6 {
		mapped := netip.MustParseAddr("::ffff:10.0.0.1").As16()
		copy(b[8:], mapped[:])
		v6 := netip.MustParseAddr("2001:db8::9").As16()
		copy(b[24:], v6[:])
	}
	binary.NativeEndian.PutUint32(b[40:], 2)
	binary.NativeEndian.PutUint32(b[44:], 0x1002)
	binary.NativeEndian.PutUint32(b[48:], 1)
	binary.NativeEndian.PutUint32(b[52:], 43159)
	binary.NativeEndian.PutUint32(b[56:], 11)
	binary.NativeEndian.PutUint32(b[60:], 12)
	binary.NativeEndian.PutUint32(b[64:], uid)
	binary.NativeEndian.PutUint32(b[68:], inode)
	for _, a := range attributes {
		b = append(b, a...)
	}
	return b
}

func attribute(kind uint16, payload ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(payload)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), payload...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

var (
	shutdown = attribute(attrShutdown, 0)
	cgroupID = attribute(attrCgroupID, binary.NativeEndian.AppendUint64(nil, 99)...)
)

// info is a struct tcp_info in a state. Its other fields are as far from each other as can be.
func info(state uint8) []byte {
	b := make([]byte, 280)
	b[0] = state
	for offset := 8; offset < len(b); offset += 4 {
		binary.NativeEndian.PutUint32(b[offset:], uint32(offset))
	}
	return attribute(attrInfo, b...)
}

func ulp(name string) []byte {
	return attribute(attrULP|1<<15, append(attribute(ulpName, append([]byte(name), 0)...), attribute(3, 1, 2, 3, 4)...)...)
}

// known is what info says: time since data was sent is at 44, and so on.
var known = Info{Known: true, DataSent: 44 * time.Millisecond, DataReceived: 52 * time.Millisecond, AckReceived: 56 * time.Millisecond}

func TestParse(t *testing.T) {
	common := Socket{
		Local: netip.MustParseAddrPort("10.0.0.1:443"), Remote: netip.MustParseAddrPort("192.0.2.9:50000"),
		Cookie: 1<<32 | 0x1002, TimerLeft: 43159 * time.Millisecond, RecvQueue: 11, SendQueue: 12,
		Interface: 2, Family: familyIPv4, Retries: 7,
	}
	with := func(change func(*Socket)) Socket { s := common; change(&s); return s }
	for name, tc := range map[string]struct {
		message []byte
		want    Socket
	}{
		"full": {message(familyIPv4, 1, 1, 1000, 77, shutdown, cgroupID), with(func(s *Socket) {
			s.State, s.Timer, s.UID, s.UIDKnown, s.Inode, s.CgroupID = 1, Retransmit, 1000, true, 77, 99
		})},
		"root's": {message(familyIPv4, 1, 0, 0, 77, shutdown), with(func(s *Socket) {
			s.State, s.UIDKnown, s.Inode = 1, true, 77
		})},
		"whose user is not known": {message(familyIPv4, 4, 1, 0, 0, shutdown), with(func(s *Socket) {
			s.State, s.Timer = 4, Retransmit
		})},
		"minisock": {message(familyIPv4, 5, 3, 0, 0), with(func(s *Socket) {
			s.State, s.Timer, s.Kind = 5, TimeWait, Minisock
		})},
		"request": {message(familyIPv4, 3, 1, 0, 0), with(func(s *Socket) {
			s.State, s.Timer, s.Kind = newSynRecv, Retransmit, Request
		})},
		"full in SYN_RECV": {message(familyIPv4, 3, 1, 0, 5, cgroupID, shutdown), with(func(s *Socket) {
			s.State, s.Timer, s.UIDKnown, s.Inode, s.CgroupID = 3, Retransmit, true, 5, 99
		})},
		"with tcp_info": {message(familyIPv4, 8, 0, 0, 77, info(8), shutdown), with(func(s *Socket) {
			s.State, s.UIDKnown, s.Inode, s.Info = 8, true, 77, known
		})},
		"whose state has changed": {message(familyIPv4, 8, 0, 0, 77, info(9), shutdown), with(func(s *Socket) {
			s.State, s.UIDKnown, s.Inode = 8, true, 77
		})},
		"listener": {message(familyIPv4, 10, 0, 0, 77, info(10), shutdown), with(func(s *Socket) {
			s.State, s.UIDKnown, s.Inode = 10, true, 77
		})},
		"that takes no IPv4": {message(familyIPv4, 10, 0, 0, 77, attribute(attrV6Only, 1), shutdown), with(func(s *Socket) {
			s.State, s.UIDKnown, s.Inode, s.V6Only = 10, true, 77, true
		})},
		"that takes IPv4, too": {message(familyIPv4, 10, 0, 0, 77, attribute(attrV6Only, 0), shutdown), with(func(s *Socket) {
			s.State, s.UIDKnown, s.Inode = 10, true, 77
		})},
		"subflow": {message(familyIPv4, 1, 0, 0, 0, info(1), ulp("mptcp"), shutdown), with(func(s *Socket) {
			s.State, s.Info, s.MPTCP = 1, known, true
		})},
		"with kernel TLS": {message(familyIPv4, 1, 0, 0, 0, ulp("tls"), shutdown), with(func(s *Socket) {
			s.State = 1
		})},
		"v4-mapped": {message(familyIPv6, 1, 0, 1, 1, shutdown), with(func(s *Socket) {
			s.Family, s.Remote = familyIPv6, netip.MustParseAddrPort("[2001:db8::9]:50000")
			s.State, s.UID, s.UIDKnown, s.Inode = 1, 1, true, 1
		})},
	} {
		t.Run(name, func(t *testing.T) {
			var got Socket
			if err := got.parse(tc.message); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseRejects(t *testing.T) {
	good := message(familyIPv4, 1, 0, 1, 1)
	for name, b := range map[string][]byte{
		"nothing":           nil,
		"a byte too few":    good[:sizeofMsg-1],
		"another family":    message(7, 1, 0, 1, 1),
		"attribute too big": append(good, 9, 0, attrShutdown, 0, 1, 2, 3, 4),
		"attribute of 3":    append(good, 3, 0, attrShutdown, 0),
		"half a tcp_info":   append(good, attribute(attrInfo, make([]byte, leastInfo-1)...)...),
		"no ULP":            append(good, attribute(attrULP, 9, 0, 1, 0)...),
		"half a cgroup id":  append(good, attribute(attrCgroupID, 1, 2, 3, 4)...),
	} {
		var s Socket
		if err := s.parse(b); err == nil {
			t.Errorf("%s: parsed as %+v", name, s)
		}
	}
}

func TestOrphan(t *testing.T) {
	for _, tc := range []struct {
		s             Socket
		orphan, known bool
	}{
		{Socket{State: finWait2, Inode: 5}, false, true},
		{Socket{State: finWait2, Kind: Minisock}, true, true},
		{Socket{State: finWait1}, true, true},
		{Socket{State: lastAck}, true, true},
		{Socket{State: 1, Inode: 5}, false, true},
		{Socket{State: 1}, false, false}, // waits for accept(2)
		{Socket{State: 6, Kind: Minisock}, false, false},
	} {
		if orphan, known := tc.s.Orphan(); orphan != tc.orphan || known != tc.known {
			t.Errorf("%+v: got %v, known %v; want %v, %v", tc.s, orphan, known, tc.orphan, tc.known)
		}
	}
}

func TestQueued(t *testing.T) {
	for _, tc := range []struct {
		s             Socket
		queued, known bool
	}{
		{Socket{State: established}, true, true},
		{Socket{State: closeWait}, true, true},
		{Socket{State: synRecv}, true, true}, // with TCP Fast Open
		{Socket{State: established, MPTCP: true}, true, false},
		{Socket{State: established, Inode: 5}, false, true},
		{Socket{State: established, Inode: 5, MPTCP: true}, false, true},
		{Socket{State: finWait1}, false, true},
		{Socket{State: listen, Inode: 5}, false, true},
		{Socket{State: newSynRecv, Kind: Request}, false, true},
		{Socket{State: 6, Kind: Minisock}, false, true},
	} {
		if queued, known := tc.s.Queued(); queued != tc.queued || known != tc.known {
			t.Errorf("%+v: got %v, known %v; want %v, %v", tc.s, queued, known, tc.queued, tc.known)
		}
	}
}

// A request for a parsed socket names the same socket.
func FuzzParse(f *testing.F) {
	f.Add(message(familyIPv4, 1, 1, 1000, 77, shutdown, cgroupID))
	f.Add(message(familyIPv6, 6, 3, 0, 0))
	f.Add(message(familyIPv6, 3, 1, 0, 0, attribute(22, 1, 2), cgroupID))
	f.Add(message(familyIPv4, 1, 0, 0, 0)[:40])
	f.Add(message(familyIPv6, 1, 0, 1, 0, info(1), ulp("mptcp"), shutdown))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Socket
		if s.parse(b) != nil {
			return
		}
		req := appendRequest(nil, &s)
		if len(req) != sizeofReq {
			t.Fatalf("a request of %d bytes", len(req))
		}
		if ports := 8; string(req[ports:ports+4]) != string(b[4:8]) {
			t.Errorf("ports % x became % x", b[4:8], req[8:12])
		}
		if n := len(s.Timer.String()); n > 11 {
			t.Errorf("timer %v", s.Timer)
		}
		used := 16
		if b[0] == familyIPv4 {
			used = 4
		}
		if string(req[12:12+used]) != string(b[8:8+used]) || string(req[28:28+used]) != string(b[24:24+used]) {
			t.Errorf("addresses % x became % x", b[8:40], req[12:44])
		}
		if string(req[44:56]) != string(b[40:52]) {
			t.Errorf("interface and cookie % x became % x", b[40:52], req[44:56])
		}
	})
}
