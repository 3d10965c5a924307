package tracer

import (
	"embed"
	"encoding"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// testWords checks that the list is whole: every value has a word of its own that
// can be read back, and nothing else has one.
func testWords[T interface {
	~uint8 | ~uint32
	fmt.Stringer
	encoding.TextMarshaler
}, P interface {
	*T
	encoding.TextUnmarshaler
}](t *testing.T, all []T, first T) {
	t.Helper()
	if declared := constantsOf(t, fmt.Sprintf("%T", first)); len(all) != declared || all[0] != first {
		t.Fatalf("%v, want all %d values from %d on", all, declared, first)
	}
	last := all[len(all)-1]
	seen := make(map[string]bool)
	for i, v := range all {
		word, err := v.MarshalText()
		if v != first+T(i) || err != nil || string(word) != v.String() || seen[v.String()] || word == nil {
			t.Errorf("%d is marshalled as %q, %v, and called %q", v, word, err, v)
		}
		// Only the first can be called nothing: a gap in the list would look the same.
		if len(word) == 0 && v != first {
			t.Errorf("%T %d has no word", v, v)
		}
		seen[v.String()] = true
		got := last
		if v == last {
			got = first
		}
		if err := P(&got).UnmarshalText(word); err != nil || got != v {
			t.Errorf("%q is read as %v, %v; want %v", word, got, err, v)
		}
	}
	for _, none := range []T{last + 1, ^T(0)} {
		if word, err := none.MarshalText(); err == nil {
			t.Errorf("%d, which is no value, is marshalled as %q", none, word)
		}
	}
	got := last
	err := P(&got).UnmarshalText([]byte("no such word"))
	if err == nil || got != last {
		t.Fatalf("a word that is not in the list is read as %v", got)
	}
	for word := range seen {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error %q does not list %q", err, word)
		}
	}
}

func TestWords(t *testing.T) {
	testWords(t, States(), Established)
	testWords(t, Reasons(), ReasonNone)
	testWords(t, Roles(), RoleUnknown)
	testWords(t, Precisions(), PrecisionUnknown)
	testWords(t, Sources(), SourceSocket)
	testWords(t, Hooks(), HookSetState)
	testWords(t, HookSets(), HooksAuto)
	testWords(t, Splits(), SplitNone)
	testWords(t, FeatureStates(), FeatureMissing)
	testWords(t, Losses(), LossRingFull)
	testWords(t, SegmentKinds(), SegmentRSTSent)
	testWords(t, RSTEnds(), RSTEndUnknown)
}

// The errors are what a user of the command reads.
func TestUnknownWord(t *testing.T) {
	for _, c := range []struct {
		v    encoding.TextUnmarshaler
		want string
	}{
		{new(State), `no TCP state is called "x"; the states are ESTABLISHED SYN_SENT SYN_RECV FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT CLOSED CLOSE_WAIT LAST_ACK LISTEN CLOSING NEW_SYN_RECV`},
		{new(Split), `totals cannot be split by "x": there are port, remote, pid, comm, netns, cgroup, handler, destination`},
		{new(HookSet), `hooks "x": there are auto, fentry and tracepoint`},
		{new(Role), `no role is called "x": there are client, server and listener`},
	} {
		if err := c.v.UnmarshalText([]byte("x")); err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

func TestStateSpellings(t *testing.T) {
	spellings := map[State]string{ // RFC 9293, ss, ss's filters, netstat, BSD, Windows, the kernel, as far as they differ
		Established: "ESTABLISHED ESTAB established TCPS_ESTABLISHED TCP_ESTABLISHED BPF_TCP_ESTABLISHED",
		SynSent:     "SYN-SENT syn-sent SYN_SENT TCPS_SYN_SENT TCP_SYN_SENT",
		SynRecv:     "SYN-RECEIVED SYN-RECV syn-recv syn-rcv SYN_RECV SYN_RCVD TCPS_SYN_RECEIVED SYN_RECEIVED TCP_SYN_RECV syn_rcv",
		FinWait1:    "FIN-WAIT-1 fin-wait-1 FIN_WAIT1 FIN_WAIT_1 TCPS_FIN_WAIT_1 TCP_FIN_WAIT1 BPF_TCP_FIN_WAIT1",
		FinWait2:    "FIN-WAIT-2 fin-wait-2 FIN_WAIT2 FIN_WAIT_2 TCPS_FIN_WAIT_2 TCP_FIN_WAIT2 finwait2",
		TimeWait:    "TIME-WAIT time-wait TIME_WAIT TCPS_TIME_WAIT TCP_TIME_WAIT timewait TimeWait",
		Closed:      "CLOSED closed UNCONN unconnected close CLOSE TCPS_CLOSED TCP_CLOSE BPF_TCP_CLOSE",
		CloseWait:   "CLOSE-WAIT close-wait CLOSE_WAIT TCPS_CLOSE_WAIT TCP_CLOSE_WAIT",
		LastAck:     "LAST-ACK last-ack LAST_ACK TCPS_LAST_ACK TCP_LAST_ACK",
		Listen:      "LISTEN listening LISTENING TCPS_LISTEN TCP_LISTEN",
		Closing:     "CLOSING closing TCPS_CLOSING TCP_CLOSING",
		NewSynRecv:  "NEW-SYN-RECV new-syn-recv NEW_SYN_RECV TCP_NEW_SYN_RECV",
	}
	for _, want := range States() {
		if spellings[want] == "" {
			t.Errorf("no spelling of %v is tried", want)
		}
		for _, name := range strings.Fields(spellings[want]) {
			var got State
			if err := got.UnmarshalText([]byte(name)); err != nil || got != want {
				t.Errorf("%q is read as %v, %v; want %v", name, got, err, want)
			}
		}
	}
	for _, name := range []string{"", "fin", "TIME WAIT", "7", "STATE_0", "tcp_", "tcp"} {
		var got State
		if err := got.UnmarshalText([]byte(name)); err == nil {
			t.Errorf("%q is read as %v, want an error", name, got)
		}
	}
}

// Every field of Lost is a cause: it is listed, summed and subtracted.
func TestEveryLossHasACause(t *testing.T) {
	var l, before Lost
	v, b := reflect.ValueOf(&l).Elem(), reflect.ValueOf(&before).Elem()
	if v.NumField() != len(Losses()) {
		t.Errorf("%d fields, %d causes", v.NumField(), len(Losses()))
	}
	for i := range v.NumField() {
		v.Field(i).SetUint(5 << (4 * i))
		b.Field(i).SetUint(3 << (4 * i))
	}
	counts := make(map[uint64]bool)
	var causes []Loss
	for cause, n := range l.All() {
		causes = append(causes, cause)
		counts[n] = true
	}
	if !slices.Equal(causes, Losses()) {
		t.Errorf("All gives %v, want %v", causes, Losses())
	}
	var sum uint64
	since := reflect.ValueOf(l.Sub(before))
	for i := range v.NumField() {
		n := v.Field(i).Uint()
		sum += n
		if name := v.Type().Field(i).Name; !counts[n] || since.Field(i).Uint() != 2<<(4*i) {
			t.Errorf("%s is %d, All gives %v; less 3 of 5 units Sub leaves %d", name, n, counts, since.Field(i).Uint())
		}
	}
	if l.Total() != sum {
		t.Errorf("the total is %d, want %d", l.Total(), sum)
	}
	// A skipped run that another program has made up for since.
	if since := (Lost{Missed: 1}).Sub(Lost{Missed: 2}); since != (Lost{}) {
		t.Errorf("what has become less since is %+v", since)
	}
}

//go:embed *.go
var sourceFiles embed.FS

// A constant is one that the package declares, with the type that it is given.
type constant struct {
	file, name, typ string
	values          []ast.Expr // none: as the one before
}

// constants finds the constants of the package, those of tests left out.
func constants(t *testing.T) (all []constant) {
	t.Helper()
	names, err := fs.Glob(sourceFiles, "*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		src, err := sourceFiles.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, src, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			typ := ""
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				if len(v.Values) > 0 {
					id, _ := v.Type.(*ast.Ident)
					typ = fmt.Sprint(id)
				}
				all = append(all, constant{name, v.Names[0].Name, typ, v.Values})
			}
		}
	}
	return all
}

// constantsOf counts those of one type, which can have its package before it.
func constantsOf(t *testing.T, typ string) (n int) {
	t.Helper()
	for _, c := range constants(t) {
		if "tracer."+c.typ == typ {
			n++
		}
	}
	return n
}

// enums are the vocabularies that the BPF side shares: all constants of these types
// need a constant and a word here.
var enums = map[string]func(n uint8) encoding.TextMarshaler{
	"bpfReason":    func(n uint8) encoding.TextMarshaler { return Reason(n) },
	"bpfDetail":    func(n uint8) encoding.TextMarshaler { return Detail(n) },
	"bpfRole":      func(n uint8) encoding.TextMarshaler { return Role(n) },
	"bpfPrecision": func(n uint8) encoding.TextMarshaler { return Precision(n) },
	"bpfHook":      func(n uint8) encoding.TextMarshaler { return Hook(n) },
	"bpfSplit":     func(n uint8) encoding.TextMarshaler { return Split(n) },
	"bpfRstEnd":    func(n uint8) encoding.TextMarshaler { return RSTEnd(n) },
	"bpfSegment":   func(n uint8) encoding.TextMarshaler { return SegmentKind(n) },
}

// notVocabularies are the enums that nothing is called by.
var notVocabularies = []string{"bpfCaller", "bpfEventFlags"}

// A value that is added to an enum of bpf/ has a constant, and a word.
func TestBindingsHaveWords(t *testing.T) {
	exported := make(map[string]bool) // names that exported constants are made of
	generated := make(map[string]map[string]uint64)
	for _, c := range constants(t) {
		if c.file == "bpf_bpfel.go" && c.typ != "<nil>" {
			n, err := strconv.ParseUint(c.values[0].(*ast.BasicLit).Value, 0, 32)
			if err != nil {
				t.Fatal(err)
			}
			if generated[c.typ] == nil {
				generated[c.typ] = make(map[string]uint64)
			}
			generated[c.typ][c.name] = n
		}
		for _, v := range c.values {
			ast.Inspect(v, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok && ast.IsExported(c.name) {
					exported[id.Name] = true
				}
				return true
			})
		}
	}
	for typ, values := range generated {
		value, ok := enums[typ]
		if !ok {
			if !slices.Contains(notVocabularies, typ) {
				t.Errorf("nothing is known of the enum %s", typ)
			}
			continue
		}
		for name, n := range values {
			if strings.HasSuffix(name, "_COUNT") {
				if w, err := value(uint8(n)).MarshalText(); err == nil {
					t.Errorf("%s has the word %q", name, w)
				}
				continue
			}
			if !exported[name] {
				t.Errorf("%s has no exported constant", name)
			}
			// The word is the enum's, but for those of functions of the kernel, and of 0.
			w, err := value(uint8(n)).MarshalText()
			if err != nil || typ != "bpfHook" && n > 0 && !strings.HasSuffix(strings.ToLower(name), "_"+string(w)) {
				t.Errorf("%s = %d: the word is %q, %v", name, n, w, err)
			}
		}
	}
	for typ := range enums {
		if len(generated[typ]) < 2 {
			t.Errorf("the bindings have %d constants of the enum %s", len(generated[typ]), typ)
		}
	}
	if numDetails < len(generated["bpfDetail"]) {
		t.Errorf("totals have room for %d details of %d", numDetails, len(generated["bpfDetail"]))
	}
	if numReasons < len(generated["bpfReason"]) {
		t.Errorf("totals have room for %d reasons of %d", numReasons, len(generated["bpfReason"]))
	}
}
