package kallsyms

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFind(t *testing.T) {
	const listing = `ffffffff82008740 t inet_twsk_kill
ffffffff820089f0 t tw_timer_handler
ffffffff820089f0 t __cfi_alias
ffffffff82008a20 T inet_twsk_deschedule_put
ffffffff82008a30 D inet_twsk_kill
ffffffffc0001000 t tcp_v6_rcv	[ipv6]
ffffffffc0001400 t inet_twsk_kill	[ipv6]
`
	got, err := Find(strings.NewReader(listing), map[string]bool{
		"tw_timer_handler": true, "inet_twsk_kill": true, "tcp_v6_rcv": true, "absent": true,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]Range{
		"inet_twsk_kill":   {{0xffffffff82008740, 0xffffffff820089f0}, {0xffffffffc0001400, 0xffffffffc0001401}},
		"tw_timer_handler": {{0xffffffff820089f0, 0xffffffff82008a20}},
		"tcp_v6_rcv":       {{0xffffffffc0001000, 0xffffffffc0001400}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestFindHidden(t *testing.T) {
	_, err := Find(strings.NewReader("0000000000000000 t tw_timer_handler\n0000000000000000 T x\n"), map[string]bool{"tw_timer_handler": true})
	if !errors.Is(err, ErrHidden) {
		t.Errorf("got %v, want ErrHidden", err)
	}
}

func TestFindMalformed(t *testing.T) {
	if _, err := Find(strings.NewReader("zzzz t f\n"), nil); err == nil {
		t.Error("no error for an address that is not hexadecimal")
	}
}
