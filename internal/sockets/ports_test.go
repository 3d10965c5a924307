package sockets

import "testing"

func TestParsePorts(t *testing.T) {
	for _, c := range []struct {
		between, reserved string
		usable            int
		in, out           []uint16
	}{
		{"32768\t60999\n", "\n", 28232, []uint16{32768, 60999}, []uint16{32767, 61000, 0}},
		{"40000\t40019\n", "40000,40005-40007,50000\n", 16, []uint16{40001, 40004, 40008}, []uint16{40000, 40005, 40006, 40007}},
		{"1\t65535\n", "1-65535\n", 0, nil, []uint16{1, 65535}},
		{"65535\t65535\n", "", 1, []uint16{65535}, nil},
	} {
		got, err := parsePorts(c.between, c.reserved)
		if err != nil || got.count() != c.usable {
			t.Errorf("%q less %q: %d, %v; want %d", c.between, c.reserved, got.count(), err, c.usable)
			continue
		}
		for _, p := range c.in {
			if !got.has(p) {
				t.Errorf("%q less %q: %d is missing", c.between, c.reserved, p)
			}
		}
		for _, p := range c.out {
			if got.has(p) {
				t.Errorf("%q less %q: %d is there", c.between, c.reserved, p)
			}
		}
	}
	for _, bad := range [][2]string{{"", ""}, {"1", ""}, {"2 1", ""}, {"1 65536", ""}, {"1 9", "x"}, {"1 9", "5-"}, {"1 9", "5-4"}, {"1 9", "-"}, {"1 9", "70000"}} {
		if got, err := parsePorts(bad[0], bad[1]); err == nil {
			t.Errorf("%q: %d ports", bad, got.count())
		}
	}
}
