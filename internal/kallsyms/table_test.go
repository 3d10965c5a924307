package kallsyms

import (
	"errors"
	"strings"
	"testing"
)

// A function ends where the next one begins, of the kernel or of the same module. Data has no
// part in that, and of two names for one address the first counts.
func TestName(t *testing.T) {
	const listing = `ffffffff81000100 T tcp_close
ffffffff81000100 T __alias
ffffffff81000200 D some_data
ffffffff81000300 W weak
ffffffff81000400 T _etext
ffffffffc0002000 t second	[other]
ffffffffc0001000 t first	[ipv6]
ffffffffc0001100 t last	[ipv6]
`
	table, err := Load(strings.NewReader(listing))
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[uint64]string{
		0xffffffff810000ff: "", 0xffffffff81000100: "tcp_close", 0xffffffff810002ff: "tcp_close", 0xffffffff81000300: "weak",
		0xffffffff81000400: "", 0xffffffffc0000fff: "", 0xffffffffc00010ff: "first", 0xffffffffc0001100: "", 0xffffffffc0002000: "",
	} {
		name, offset, ok := table.Name(addr)
		if name != want || ok != (want != "") {
			t.Errorf("%#x is in %q, want %q", addr, name, want)
		}
		if want == "tcp_close" && offset != addr-0xffffffff81000100 {
			t.Errorf("%#x is %#x into it", addr, offset)
		}
	}
}

func TestLoadHidden(t *testing.T) {
	if _, err := Load(strings.NewReader("0000000000000000 t a\n")); !errors.Is(err, ErrHidden) {
		t.Errorf("got %v, want ErrHidden", err)
	}
	if _, err := Load(strings.NewReader("zz t a\n")); err == nil {
		t.Error("an address that is not hexadecimal was read")
	}
}
