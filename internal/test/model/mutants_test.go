package model

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A mutant is a mistake in bpf/, made on purpose. The model must find each.
var mutants = []struct{ name, file, old, new string }{
	{"a start that was missed is kept", "socket.h", "		info->since_ns = 0;\n		info->precision = PRECISION_UNKNOWN;\n	} else", "	} else"},
	{"a record outlives its minisock", "minisock.h", "	if (flags & MINI_HANDED_OVER)\n		forget_mini(m, flags);", ""},
	{"a record outlives its hand-over", "handover.h", "MINI_HANDED_OVER) & MINI_TOLD)", "MINI_HANDED_OVER) & 0)"},
	{"what was put aside stays when its minisock ends", "minisock.h", "m->by_address || flags & MINI_ASIDE)", "m->by_address)"},
	{"an edge is counted twice", "tally.h", "	tally_edge(e->from, e->to, e->reason);", "	tally_edge(e->from, e->to, e->reason);\n	if (e->reason == REASON_RESET)\n		tally_edge(e->from, e->to, e->reason);"},
	{"what the timer tells is called exact", "minisock.h", "at : info->since_ns, PRECISION_JIFFY)", "at : info->since_ns, PRECISION_EXACT)"},
	{"what was visited is called exact", "existing.h", "info->precision = PRECISION_AT_LEAST", "info->precision = PRECISION_EXACT"},
	{"a hand-over is taken for a close", "socket.h", "if (!info->untracked && hand_over_finish(info->cookie))", "if (0)"},
	{"TIME_WAIT begins twice", "minisock.h", "	if (cmpxchg(&info->time_wait_ns, 0, at))\n		return 0;", "	cmpxchg(&info->time_wait_ns, 0, at);"},
	{"a full ring is not counted", "output.h", "	count(ring_full);", ""},
	{"a record outlives its socket", "socket.h", "	if (to == TCP_CLOSE)\n		drop_socket(info);\n	else\n		keep_step(s);", "	keep_step(s);"},
	{"a record outlives its socket, which hands over", "socket.h", "hand_over_step(info, &s->e)) {\n		drop_socket(info);", "hand_over_step(info, &s->e)) {"},
	{"a record is another socket's", "socket.h", "	if (info->state && !same_socket(info, cookie)) {", "	if (0) {"},
	{"a record in the hash hides behind a place in the array", "minisock.h", "find_record(m->cookie) ? -EEXIST : ", ""},
	{"two lives share a record", "handover.h", "add_record(cookie, &info, living != NULL)", "add_record(cookie, &info, false)"},
	{"a child is nobody's", "socket.h", "	if (listener)\n		info->owner = *listener;", ""},
	{"a minisock's address is trusted", "minisock.h", "	if (!info || info->minisock != (__u64)m->tw || info->flags & MINI_ENDED)", "	if (!info)"},
	{"a minisock that goes stays live", "minisock.h", "	if (counted)\n		tally_move(&e, counted, 0);", ""},
	{"the closer is whoever is on the CPU", "socket.h", "	if (stream && closed_by_process(e->from, e->to, e->reason, f->shutdown, info->deferred_fin))", "	if (stream)"},
	{"the ends of a minisock are swapped", "identity.h", "	*(__u32 *)t->saddr = addrs >> 32;\n	*(__u32 *)t->daddr = (__u32)addrs;", "	*(__u32 *)t->daddr = addrs >> 32;\n	*(__u32 *)t->saddr = (__u32)addrs;"},
	{"a name ends with an older one", "identity.h", "words[0] &= end - 1;", ""},
	{"a long name ends with an older one", "identity.h", "words[1] &= end ? 0 : first_zero(words[1]) - 1;", "words[1] &= end ? 0 : -1;"},
	{"live sockets that nobody asked for", "tally.h", "	if (!totals_on || !whose)", "	if (!whose)"},
	{"re-arms that nobody asked for", "minisock.h", "	if (info->verdict == VERDICT_PASS && totals_on)\n		tally_rearm();", "	if (info->verdict == VERDICT_PASS)\n		tally_rearm();"},
	{"a stack that is not there says that nobody called", "unwind.h", "	if (!st || st->bytes <= 0)\n		return CALLER_UNKNOWN;", "	if (!st)\n		return CALLER_UNKNOWN;"},
	{"totals that nobody asked for", "output.h", "	if (totals_on)\n		tally(e);", "	tally(e);"},
	{"a namespace is told by its number", "identity.h", "	t->netns_cookie = net->net_cookie;", "	t->netns_cookie = net->ns.inum;"},
	{"a minisock's namespace is told by its number", "identity.h", "CORE_LOAD(struct net, net, net_cookie)", "CORE_LOAD(struct net, net, ns.inum)"},
	{"every namespace is followed", "filter.h", "	if (n_netns && !in_netns(t->netns_cookie))\n		return VERDICT_REJECT;", ""},
	{"a holder is taken for the creator", "existing.h", "	owner->holder = 1;\n", ""},
	{"who adds a subflow owns it", "identity.h", "	return BPF_CORE_READ(connection, first) != sk;", "	return false;"},
	{"every subflow is a later one", "identity.h", "	return BPF_CORE_READ(connection, first) != sk;", "	return true;"},
	{"an error is not looked at", "socket.h", "	e->err = sk->sk_err;", "	e->err = 0;"},
}

func TestMutants(t *testing.T) {
	if os.Getenv(harnessEnv) == "" || testing.Short() {
		t.Skip("skipped: it compiles the programs for each mutant (not in short mode, nor without clang-19)")
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS("../../../bpf")); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, m.file)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(string(b), m.old) != 1 {
				t.Fatalf("%s has not one place that reads\n%s", m.file, m.old)
			}
			if err := os.WriteFile(path, []byte(strings.Replace(string(b), m.old, m.new, 1)), 0o644); err != nil {
				t.Fatal(err)
			}
			bin := filepath.Join(dir, "harness")
			if err := build(bin, dir, "-g0", "-fno-sanitize=all"); err != nil {
				t.Fatal(err)
			}
			said, script := survives(t, bin)
			if said == "" {
				t.Fatal("the mutant survives")
			}
			t.Logf("found: %q: %s", script, said)
		})
	}
}

// survives plays the scripts of the other tests, and returns the first error, or "".
func survives(t *testing.T, bin string) (said string, s script) {
	h := open(t, bin)
	try := func(hooks byte, options uint16, s script) string {
		_, _, errs, err := play(h, hooks, options, s)
		if err != nil {
			_ = h.end()
			return "it crashes: " + err.Error()
		}
		if len(errs) > 0 {
			return errs[0]
		}
		return ""
	}
	for _, s := range scenarios(t) {
		for _, s := range sweep(s) {
			for hooks := range byte(numHookSets) {
				for _, options := range []uint16{optTick, optTick | optNoTotals} {
					if said := try(hooks, options, s); said != "" {
						return said, s
					}
				}
			}
		}
	}
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 2))
		s := generate(r, true)
		if said := try(byte(seed%uint64(numHookSets)), randomOptions(r), s); said != "" {
			return said, s
		}
	}
	return "", nil
}
