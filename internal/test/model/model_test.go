package model

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The options of a run, one bit each.
const (
	optHalfMade = 1 << iota // the kernel reports children before they have a peer
	optTick                 // time passes between two hooks
	optRaw
	optTotalsOnly
	optAudit
	optSplit
	optPortFilter
	optMinDuration
	optFewMinisocks
	optLeave // sockets that exist at the end stay
	optNoTotals
	optNetNSFilter
)

// play runs a script, and returns what is wrong with the output of the programs.
func play(h *harness, hooks byte, options uint16, s script) (*kernel, *outcome, []string, error) {
	k := newKernel(hookSet(hooks) % numHookSets)
	set := settings{Stream: 1, Minisocks: 64, HZ: tickRate}
	has := func(opt uint16) bool { return options&opt != 0 }
	on := func(opt uint16) uint64 {
		if has(opt) {
			return 1
		}
		return 0
	}
	k.halfMade = has(optHalfMade)
	k.tick = 137 * on(optTick)
	set.Raw, set.Audit, set.Stream = on(optRaw), on(optAudit), 1-on(optTotalsOnly)
	set.SplitBy = 3 * on(optSplit) // by the owner's pid
	if has(optNoTotals) {
		set.NoTotals, set.Stream, set.Audit, set.SplitBy = 1, 1, 0, 0
	}
	set.LocalPort = 1001 * on(optPortFilter)
	set.NetNS = 1 * on(optNetNSFilter)
	set.MinDuration = 1000 * on(optMinDuration)
	if has(optFewMinisocks) {
		set.Minisocks = 2
	}
	if k.hooks == fentry {
		set.SeesRearms = 1
	}
	if k.hooks != tracepointsNoRxSk { // older kernels, with either set of hooks
		set.SeesResets = 1
	}
	if len(s) == 0 || s[0] != '(' { // the programs are attached from the beginning
		k.push(op{Code: opAttached})
	}
	k.run(s, !has(optLeave))
	k.push(op{}) // reads the final state
	out, err := h.run(set, k.ops)
	if err != nil {
		return k, nil, nil, err
	}
	o := newOracle(k, set, out)
	if set.Raw != 0 || set.Stream == 0 {
		return k, out, o.sums(), nil
	}
	return k, out, o.check(), nil
}

// sums checks a run that shows no transitions. Only its sums can be checked.
func (o *oracle) sums() []string {
	for i := range o.k.fired {
		f := &o.k.fired[i]
		if !o.nested(f) {
			o.identity(f, &o.out.results[f.op])
		}
		if o.set.Raw == 0 {
			o.none(f, o.out.events[f.op])
		}
	}
	return o.errs
}

// explain lists what fired and what the programs reported.
func explain(k *kernel, out *outcome) string {
	var b strings.Builder
	for i := range k.fired {
		f := &k.fired[i]
		fmt.Fprintf(&b, "%4d %d ns: %s", f.op, f.time-begin, name(f))
		if f.sock != nil {
			fmt.Fprintf(&b, " socket %d", f.sock.slot)
		}
		if f.mini != nil {
			fmt.Fprintf(&b, " minisock %d substate %d", f.mini.slot, k.ops[f.op].Substate)
		}
		if k.ops[f.op].Nest > 0 {
			fmt.Fprintf(&b, " (the next in its midst, at %d)", k.ops[f.op].Nest)
		}
		if f.before {
			b.WriteString(" before")
		}
		b.WriteByte('\n')
		if out == nil {
			continue
		}
		fmt.Fprintf(&b, "     %d records, %+v\n", out.results[f.op].Minisocks, out.results[f.op].Account)
		for _, e := range out.events[f.op] {
			fmt.Fprintf(&b, "     shown: %+v\n", e)
		}
	}
	return b.String()
}

func hold(t *testing.T, h *harness, hooks byte, options uint16, s script) bool {
	t.Helper()
	k, _, errs, err := play(h, hooks, options, s)
	if err != nil {
		err = errors.Join(err, h.end())
		t.Fatalf("hooks %d, options %#x, script %q: the programs crashed: %v\n%s\n%s", hooks, options, s, err, &h.stderr, explain(k, nil))
	}
	if len(errs) > 0 {
		s = shrink(h, hooks, options, s, errs[0])
		k, out, errs, _ := play(h, hooks, options, s)
		t.Errorf("hooks %d, options %#x, script %q:\n%s\n\n%s", hooks, options, s, strings.Join(errs, "\n"), explain(k, out))
	}
	return len(errs) == 0
}

// shrink removes the steps without which the programs are still wrong in the same way.
func shrink(h *harness, hooks byte, options uint16, s script, said string) script {
	kind := func(msg string) string {
		return strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return -1
			}
			return r
		}, msg)
	}
	for size := len(s) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(s); {
			shorter := slices.Delete(slices.Clone(s), at, at+size)
			_, _, errs, err := play(h, hooks, options, shorter)
			if err == nil && len(errs) > 0 && kind(errs[0]) == kind(said) {
				s = shorter
			} else {
				at++
			}
		}
	}
	return s
}

// steps are those of a generated script. A step that is repeated here occurs more often.
const (
	common = "ccccccmeeeeeeekkkkkllhhhxxxxxaaaaaaappppprdovizzunsqbLjFFFFFDORYCKNUEBTttttwWW"
	faults = "-^?#!%|S"
)

func generate(r *rand.Rand, adverse bool) script {
	var s script
	if adverse && r.IntN(3) == 0 {
		s = append(s, "(0"...)
	}
	attachAt := r.IntN(40)
	for n := 10 + r.IntN(60); n > 0; n-- {
		if n == attachAt {
			s = append(s, ")0>0>1>2>3<0<1<2<3.0"...)
		}
		what := common[r.IntN(len(common))]
		if adverse && r.IntN(6) == 0 {
			what = faults[r.IntN(len(faults))]
		}
		arg := digits[r.IntN(4)+4*max(0, r.IntN(8)-4)]
		if what == 'w' {
			arg = "FFDORYCKNUE"[r.IntN(11)]
		}
		if strings.IndexByte(faults, what) >= 0 {
			arg = digits[r.IntN(8)]
		}
		s = append(s, what, arg)
		if what == '|' {
			s = append(s, byte('0'+r.IntN(40)))
		}
	}
	return s
}

// vary makes small changes to a scenario of the corpus.
func vary(r *rand.Rand, s script) script {
	s = slices.Clone(s)
	for range 1 + r.IntN(6) {
		at := r.IntN(len(s)/2+1) * 2
		switch r.IntN(5) {
		case 0:
			if at+2 <= len(s) {
				s = slices.Delete(s, at, at+2)
			}
		case 1:
			s = slices.Insert(s, at, generate(r, true)[2:8]...)
		case 2:
			s = slices.Insert(s, at, 't', digits[r.IntN(8)])
		case 3:
			s = slices.Insert(s, at, common[r.IntN(len(common))], digits[r.IntN(8)])
		default:
			s = slices.Insert(s, at, faults[r.IntN(len(faults))], digits[r.IntN(4)])
		}
	}
	return s
}

// scenarios returns the scripts of the corpus, by file name.
func scenarios(t *testing.T) map[string]script {
	const dir = "testdata/fuzz/FuzzModel"
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]script)
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		_, quoted, _ := strings.Cut(string(b), "[]byte(")
		s, err := strconv.Unquote(strings.TrimSuffix(strings.TrimSpace(quoted), ")"))
		if err != nil {
			t.Fatalf("%s: %v", f.Name(), err)
		}
		all[f.Name()] = script(s)
	}
	return all
}

// sweep makes variants of a scenario in which a hook fires while another runs, one variant for
// each point at which it can.
func sweep(s script) []script {
	all := []script{s}
	for i := 0; i+2 < len(s); i += 2 {
		if s[i] != '|' {
			continue
		}
		for point := range byte(40) {
			other := slices.Clone(s)
			other[i+2] = '0' + point
			all = append(all, other)
		}
		break
	}
	return all
}

// Every scenario runs with each set of hooks, on both kinds of kernels.
func TestScenarios(t *testing.T) {
	h := open(t, os.Getenv(harnessEnv))
	for name, s := range scenarios(t) {
		t.Run(name, func(t *testing.T) {
			for _, s := range sweep(s) {
				for hooks := range byte(numHookSets) {
					for _, options := range []uint16{0, optHalfMade, optTick, optHalfMade | optTick, optTick | optNoTotals} {
						if !hold(t, h, hooks, options, s) {
							return
						}
					}
				}
			}
		})
	}
}

func randomOptions(r *rand.Rand) uint16 {
	if r.IntN(2) == 0 {
		return uint16(r.IntN(optRaw))
	}
	return uint16(r.IntN(2 * optNetNSFilter))
}

// Random scripts of what a kernel does.
func TestModel(t *testing.T) {
	h := open(t, os.Getenv(harnessEnv))
	for seed := range sequences() {
		r := rand.New(rand.NewPCG(seed, 1))
		if s := generate(r, false); !hold(t, h, byte(seed%uint64(numHookSets)), randomOptions(r), s) {
			t.Fatalf("seed %d", seed)
		}
	}
}

// Random scripts with adversities.
func TestModelWithAdversity(t *testing.T) {
	h := open(t, os.Getenv(harnessEnv))
	all := scenarios(t)
	names := slices.Sorted(maps.Keys(all))
	for seed := range sequences() {
		r := rand.New(rand.NewPCG(seed, 2))
		s := generate(r, true)
		if r.IntN(2) == 0 {
			s = vary(r, all[names[r.IntN(len(names))]])
		}
		if !hold(t, h, byte(seed%uint64(numHookSets)), randomOptions(r), s) {
			t.Fatalf("seed %d", seed)
		}
	}
}

// sequences is the number of random scripts, which take a few seconds. MODEL_SEQUENCES sets it.
func sequences() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("MODEL_SEQUENCES"), 10, 32); err == nil {
		return n
	}
	return 4000
}

// Each file of the corpus has one scenario and is named after it.
func FuzzModel(f *testing.F) {
	h := open(f, os.Getenv(harnessEnv))
	f.Fuzz(func(t *testing.T, hooks byte, options uint16, s []byte) {
		hold(t, h, hooks, options, s)
	})
}
