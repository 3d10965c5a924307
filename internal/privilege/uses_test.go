package privilege

import "testing"

// Every capability has its words, and the setcap line those that it takes.
func TestUses(t *testing.T) {
	for _, u := range Uses() {
		if u.For == "" || u.Since == "" {
			t.Errorf("%+v", u)
		}
	}
	const least = "setcap cap_bpf,cap_perfmon,cap_syslog=ep"
	const all = "setcap cap_bpf,cap_perfmon,cap_syslog,cap_sys_ptrace,cap_dac_read_search,cap_sys_admin=ep"
	if a, b := Setcap(false), Setcap(true); a != least || b != all {
		t.Errorf("%s\n%s", a, b)
	}
}
