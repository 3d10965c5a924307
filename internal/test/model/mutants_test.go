package model

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A mutant is a mistake in bpf/, made on purpose. The model must find each.
var mutants = []struct{ name, file, old, new string }{
	{"a start that was missed is kept", "socket.h", "			note_missed(info->netns_slot, info->state, from);\n		info->since_ns = 0;\n		info->precision = PRECISION_UNKNOWN;", "			note_missed(info->netns_slot, info->state, from);"},
	{"a record outlives its minisock", "minisock.h", "	if (flags & MINI_HANDED_OVER)\n		forget_mini(m, flags);", ""},
	{"a record outlives its hand-over", "handover.h", "MINI_HANDED_OVER) & MINI_TOLD)", "MINI_HANDED_OVER) & 0)"},
	{"what was put aside stays when its minisock ends", "minisock.h", "m->by_address || flags & MINI_ASIDE)", "m->by_address)"},
	{"an edge is counted twice", "tally.h", "	tally_edge(e);", "	tally_edge(e);\n	if (e->reason == REASON_RESET)\n		tally_edge(e);"},
	{"what the timer tells is called exact", "minisock.h", "at : info->since_ns, PRECISION_JIFFY)", "at : info->since_ns, PRECISION_EXACT)"},
	{"what was visited is called exact", "existing.h", "info->precision = PRECISION_AT_LEAST", "info->precision = PRECISION_EXACT"},
	{"a hand-over is taken for a close", "socket.h", "		return hand_over_finish(mini, info->cookie);", "		return false;"},
	{"TIME_WAIT begins twice", "minisock.h", "	if (cmpxchg(&info->time_wait_ns, 0, at))\n		return 0;", "	cmpxchg(&info->time_wait_ns, 0, at);"},
	{"a SYN is said to have taken over what a record found late tells", "minisock.h", "!sure && ", "!(sees_resets && info) && "},
	{"a full ring is not counted", "output.h", "		count(ring_full);", "		;"},
	{"an error that ended nothing is told", "tell.h", "	if (!raw)\n		e->err = 0; /* an error that ended nothing */\n", ""},
	{"a record outlives its socket", "socket.h", "	forget_handler(info->cookie);\n	drop_socket(info);", "	keep_step(s);"},
	{"a record outlives its socket, which hands over", "socket.h", "keep_metrics(s->sk, info->cookie);\n		drop_socket(info);\n		return;\n	}\n	if (info->restored", "keep_metrics(s->sk, info->cookie);\n		return;\n	}\n	if (info->restored"},
	{"a record is another socket's", "socket.h", "	if (info->state && !same_socket(info, cookie)) {", "	if (0) {"},
	{"a record in the hash hides behind a place in the array", "minisock.h", "find_record(m->cookie) ? -EEXIST : ", ""},
	{"two lives share a record", "handover.h", "add_record(cookie, &info, living != NULL)", "add_record(cookie, &info, false)"},
	{"a child is nobody's", "socket.h", "	if (listener)\n		info->owner = *listener;", ""},
	{"a minisock that goes stays live", "minisock.h", "	emit_mini(&e, info->verdict);\n	forget_handler(m->cookie);\n	counted = xchg(&info->counted, 0);\n	if (counted)\n		tally_move(group_of(info), counted, 0);", "	emit_mini(&e, info->verdict);"},
	{"the closer is whoever is on the CPU", "tell.h", "	if (stream && closed_by_process(e, caller, info->deferred_fin))", "	if (stream)"},
	{"the ends of a minisock are swapped", "identity.h", "	*(__u32 *)t->saddr = addrs >> 32;\n	*(__u32 *)t->daddr = (__u32)addrs;", "	*(__u32 *)t->daddr = addrs >> 32;\n	*(__u32 *)t->saddr = (__u32)addrs;"},
	{"a name ends with an older one", "identity.h", "words[0] &= end - 1;", ""},
	{"a long name ends with an older one", "identity.h", "words[1] &= end ? 0 : first_zero(words[1]) - 1;", "words[1] &= end ? 0 : -1;"},
	{"handshakes are all connects", "tally.h", "of == TCP_SYN_SENT && e->to == TCP_ESTABLISHED", "of == TCP_SYN_SENT"},
	{"sessions have no role", "tally.h", "of = SESSIONS + (e->role & (ROLES - 1))", "of = SESSIONS"},
	{"ends have no role", "tally.h", "tot->ends[role][from]", "tot->ends[0][from]"},
	{"live sockets that nobody asked for", "tally.h", "	struct totals *tot;\n\n	if (!totals_on)\n		return 0;", "	struct totals *tot;\n"},
	{"re-arms that nobody asked for", "minisock.h", "	if (info->verdict == VERDICT_PASS && totals_on)\n		tally_rearm();", "	if (info->verdict == VERDICT_PASS)\n		tally_rearm();"},
	{"a stack that is not there says that nobody called", "unwind.h", "	if (!st || st->bytes <= 0)\n		return CALLER_UNKNOWN;", "	if (!st)\n		return CALLER_UNKNOWN;"},
	{"totals that nobody asked for", "output.h", "	if (totals_on)\n		tally(e);", "	tally(e);"},
	{"an end that no program was run for is silent", "sweep.h", "	if (lost) {\n		count(seen);\n		count(missed);\n	}", ""},
	{"the end of a minisock stays live", "sweep.h", "	if (counted)\n		tally_gone(group_of(info), counted);\n	if (audit)", "	if (audit)"},
	{"the close of a socket stays live", "socket.h", "	if (counted)\n		tally_gone(&info->group, counted);", ""},
	{"a minisock is gone as soon as its timer is due", "sweep.h", "still_pending(info, key, expires) || ", ""},
	{"the first look is trusted", "sweep.h", "	if (!(atomic_or(&info->flags, MINI_SUSPECT) & MINI_SUSPECT))\n		return 1;\n", ""},
	{"a socket that begins is taken for one that is gone", "sweep.h", "info->since_ns && info->since_ns + SECOND < s->now", "1"},
	{"a hand-over that was missed is a close", "socket.h", "	if (mini && hand_over_finish(mini, cookie))\n		return;\n", ""},
	{"a connect() that hangs is not shown", "sweep.h", "	settle_port(info, (struct sock *)(info->key + s->origin), at);", ""},
	{"a first transition is sent by two programs", "sweep.h", "cmpxchg(&info->deferred_ns, at, SETTLING) != at)", "0)"},
	{"a listener's port is not waited for", "socket.h", "(e->to == TCP_SYN_SENT || e->to == TCP_LISTEN)", "e->to == TCP_SYN_SENT"},
	{"a namespace is told by its number", "identity.h", "	t->netns_cookie = net->net_cookie;", "	t->netns_cookie = net->ns.inum;"},
	{"a minisock's namespace is told by its number", "identity.h", "CORE_LOAD(struct net, net, net_cookie)", "CORE_LOAD(struct net, net, ns.inum)"},
	{"every namespace is followed", "filter.h", "	if (n_netns && !in_netns(t->netns_cookie))\n		return VERDICT_REJECT;", ""},
	{"a holder is taken for the creator", "existing.h", "	owner->holder = 1;\n", ""},
	{"who adds a subflow owns it", "identity.h", "	return BPF_CORE_READ(connection, first) != sk;", "	return false;"},
	{"every subflow is a later one", "identity.h", "	return BPF_CORE_READ(connection, first) != sk;", "	return true;"},
	{"what is told late has the teller's stack", "tell.h", "	e->flags = EVENT_LATE;\n", ""},
	{"a FIN that was not seen has the teller's stack", "minisock.h", "		e.flags |= EVENT_LATE;\n", "		;\n"},
	{"a port that the program names is bind()'s", "socket.h", " && !(BPF_CORE_READ_BITFIELD(sk, sk_userlocks) & SOCK_BINDPORT_LOCK)", ""},
	{"a port of bind() is nobody's", "socket.h", "s->e.flags |= EVENT_PORT_BY_BIND;", ";"},
	{"a port of connect() is bind()'s", "socket.h", "s->e.to == TCP_SYN_SENT && s->e.tuple.sport && !(", "s->e.to == TCP_SYN_SENT && !("},
	{"an error is not looked at", "step.h", "	e->err = sk->sk_err;", "	e->err = 0;"},
	{"an overflow is not counted by the kernel's count", "step.h", "f->refused_minisock = overflow_moved(", "f->refused_minisock = 1 || overflow_moved("},
	{"a count of overflows is read for the first time at each", "overflow.h", "	*last = count;", ""},
	{"data that acknowledges our FIN is an abort", "reason.h", "		return why(REASON_RST_SENT, DETAIL_DATA_AFTER_CLOSE, 0);", "		return why(REASON_ABORTED, DETAIL_NONE, 0);"},
	{"a pair in use is no free port", "reason.h", "	if (f->port)\n", "	if (0)\n"},
	{"a SYN of the life before was sent in this one", "step.h", "(s->e.err && tp->write_seq != s->info->write_seq)", "s->e.err"},
	{"an error of the life before ends this one", "step.h", "	if (f->err == info->err && !(is_a(s, GIVES_UP) && f->sent_syn))\n		f->err = 0;", ""},
	{"a connect() that was given up was closed", "reason.h", "		return why(REASON_GIVEN_UP, f->task_flags & PF_EXITING ? DETAIL_EXIT : DETAIL_CLOSE, f->soft_err);", "		return why(REASON_CLOSED, DETAIL_NONE, f->soft_err);"},
	{"an ICMP error is forgotten", "socket.h", "		info->soft_err = err;", "		;"},
	{"an unusual errno is not known", "reason.h", "	case ENOPROTOOPT:\n", ""},
	{"a transparent proxy's takeover is not known", "reason.h", "	case CALLER_TPROXY:\n		return REASON_RECYCLED;\n", ""},
	{"who called shutdown() is who aborts", "reason.h", "	case DETAIL_UNREAD_DATA:\n	case DETAIL_LINGER_ZERO:\n", "	case DETAIL_LINGER_ZERO:\n"},
	{"a child that dies with its listener has no closer", "reason.h", "	case DETAIL_LISTENER_CLOSED:\n	case DETAIL_CHECKPOINT:", "	case DETAIL_CHECKPOINT:"},
	{"the peer's FIN is data that was not read", "reason.h", "	if (f->unread > fin)\n", "	if (f->unread)\n"},
	{"a restored socket has sent a SYN", "socket.h", "	if (info->restored && restore_step(info, &s->e)) {", "	if (0) {"},
	{"the RST that a child of Fast Open gets is ours", "unwind.h", "		else if (caller != CALLER_NONE)", "		else if (caller != CALLER_NONE && caller != CALLER_CHECK_REQ)"},
	{"a FIN on another CPU makes a SYN of an RST", "minisock.h", "	if (sees_resets && info && info->answered)\n		return REASON_RST_SENT;\n", ""},
	{"what a minisock answers is always data", "minisock_hooks.h", "	if (th[13] & TCPHDR_SYN)", "	if (0)"},
	{"a timeout is always one of retransmissions", "reason.h", "	if (f->probes && !f->retransmits)", "	if (0)"},
	{"TCP_USER_TIMEOUT is not looked at", "reason.h", "		return DETAIL_USER_TIMEOUT;", "		;"},
	{"a minisock is found from FIN_WAIT_2 on only", "socket.h", "	if (s->e.to == TCP_FIN_WAIT1 || s->e.to == TCP_FIN_WAIT2 ||", "	if (s->e.to == TCP_FIN_WAIT2 ||"},
	{"a minisock's record outlives a socket that has none", "socket.h", "	if (is_a(s, MAY_HAND_OVER | NO_HAND_OVER))\n		hand_over_forget(info->cookie);", ""},
	{"a birth that was missed is not counted", "minisock.h", "		note_missed(info->netns_slot, TCP_FIN_WAIT1, TCP_FIN_WAIT2);\n", ""},
	{"a hand-over that no hook has seen is a close", "socket.h", "	if (is_a(s, MAY_HAND_OVER) && surely_hands_over(&s->f)) {", "	if (0) {"},
	{"details are not counted", "tally.h", "	if (e->detail)\n", "	if (0)\n"},
}

func TestMutants(t *testing.T) {
	if underRace {
		t.Skip("skipped: the race detector sees nothing of the harness, which is C; make test runs it without")
	}
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
	all := scenarios(t)
	names := slices.Sorted(maps.Keys(all))
	for seed := range uint64(12000) {
		r := rand.New(rand.NewPCG(seed, 2))
		s := generate(r, true)
		if r.IntN(2) == 0 {
			s = vary(r, all[names[r.IntN(len(names))]])
		}
		if said := try(byte(seed%uint64(numHookSets)), randomOptions(r), s); said != "" {
			return said, s
		}
	}
	return "", nil
}
