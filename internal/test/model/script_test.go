package model

import "slices"

// A script is a list of steps of two bytes: an action, and its object. The second byte is a digit.
// Its lowest two bits are the number of the socket, and the others choose a variant: '0' to '3' are
// plain, '4' to '7' the first variant, '8' to ';' the second.
//
//	sockets: l listen, c connect, e established, y simultaneous open, k accept,
//	         h shutdown, x close, a their ACK of our FIN, p their FIN, r their RST,
//	         d data after close, o timeout, v destroyed, i disconnected, z freed,
//	         u connect with a pair that is in use, n an ICMP error ends it, s an ICMP error
//	         is noted, q TCP_REPAIR is turned on or off, b too many orphans, L its
//	         listener is closed before it is accepted, j a RST meets a child of TCP Fast Open
//	         m connect a new subflow of MPTCP: plain the first, in the first variant a later one
//	minisocks, counted from the youngest: F FIN, D data, O another segment, R RST, Y SYN,
//	         B data, and a FIN on another CPU in its midst, T a SYN to a transparent proxy,
//	         C reused by connect(), K destroyed, N its namespace is removed, U killed by
//	         something unknown, E expires, S a segment that met it is freed after its end
//	w and one of those letters: that happens during the next hand-over, on another CPU
//	t time passes: 1 us, 1 ms, 5 ms, 3 s or 61 s, by the digit
//	( no program is attached yet, ) the programs are attached; > the iterator visits an older
//	         socket, < a minisock; . it has visited all
//	W user space sweeps the records
//	f toggles whether the namespace has no room for another minisock
//	adversities of the hook that fires after as many others as the digit says:
//	         - no program is run; ^ the next program takes over; ? no stack;
//	         # the map is full; ! no memory; % the ring is full; | another CPU's hook
//	         fires while its program runs, at the point that the next byte chooses
//	* any hook with any arguments, which no kernel does
type script []byte

const digits = "0123456789:;<=>?"

// run plays the script. endAll then closes all sockets and lets all minisocks expire.
func (k *kernel) run(s script, endAll bool) {
	for i := 0; i+1 < len(s) && len(k.ops) < maxOps; i += 2 {
		k.action++
		i += k.step(s[i], s[i+1], s[i+2:])
	}
	if !endAll {
		return
	}
	k.adverse, k.windows, k.overflow = nil, nil, false
	k.attached = true
	for _, s := range slices.Clone(k.socks[:]) {
		k.action++
		if s == nil {
			continue
		}
		if s.state != closed {
			k.abort(s)
		}
		k.freeSock(s)
	}
	k.action++
	k.pass(200e9)
	for range 2 {
		k.action++
		k.sweep()
	}
	k.swept = true
}

// maxOps is what fits into a request of the harness, less what one step and the end may add.
const maxOps = 1000

// step plays one step, and returns how many bytes more than two it has.
func (k *kernel) step(what, arg byte, rest []byte) int {
	n := int(arg - '0')
	s := k.socks[n&3]
	how := n >> 2 & 3
	switch what {
	case 'l', 'c':
		if s == nil {
			if s = k.newSock(nil); s == nil {
				return 0
			}
		}
		if what == 'l' {
			k.listen(s, how)
		} else {
			k.connect(s, how)
		}
	case 'u':
		if s == nil {
			s = k.newSock(nil)
		}
		if s != nil {
			k.connectInUse(s)
		}
	case 'm':
		if s == nil {
			if s = k.newSock(nil); s != nil {
				s.subflow = 1 + uint64(how&1)
				k.connect(s, 0)
			}
		}
	case 'e', 'y', 'k', 'h', 'x', 'a', 'p', 'r', 'd', 'o', 'v', 'i', 'z', 'n', 's', 'q', 'b', 'L', 'j':
		if s != nil {
			k.happens(s, what, how)
		}
	case 'F', 'D', 'O', 'R', 'Y', 'C', 'K', 'N', 'U', 'E', 'B', 'T':
		k.segment(k.mini(n), what)
	case 'S':
		k.staleSegment(n)
	case 'w':
		k.windows = append(k.windows, arg)
	case 't':
		k.pass([]uint64{1e3, 1e6, 5e6, 3e9, 61e9, 0, 700e6, 2e9}[n&7])
	case '(':
		k.attached = len(k.ops) > 0 // only at the beginning
	case ')':
		k.attached = true
	case '>', '<', '.':
		k.visit(what, n)
	case 'W':
		k.sweep()
	case 'f':
		k.overflow = !k.overflow
	case '-', '^', '?', '#', '!', '%':
		kind := map[byte]byte{'-': 'g', '^': 'r', '?': 's', '#': 'u', '!': 'm', '%': 'f'}[what]
		k.adverse = append(k.adverse, adversity{kind: kind, after: n & 15})
	case '|':
		if len(rest) == 0 {
			return 0
		}
		k.adverse = append(k.adverse, adversity{kind: 'n', after: n & 15, arg: uint64(rest[0]-'0') & 63})
		return 1
	case '*':
		return k.garbage(arg, rest)
	}
	return 0
}

func (k *kernel) happens(s *sock, what byte, how int) {
	switch what {
	case 'e':
		k.establish(s)
	case 'y':
		k.cross(s)
	case 'k':
		k.accept(s, how)
	case 'h':
		k.shut(s)
	case 'x':
		k.close(s, how)
	case 'a':
		k.acknowledge(s, how)
	case 'p':
		k.finished(s, how)
	case 'r':
		k.resetSock(s)
	case 'd':
		k.dataAfterClose(s)
	case 'n':
		k.unreachable(s, how)
	case 's':
		k.noteError(s, 113-uint64(how))
	case 'q':
		s.repair = !s.repair && s.held
	case 'b':
		k.tooManyOrphans(s)
	case 'L':
		k.listenerGone(s)
	case 'j':
		k.resetFastOpen(s)
	case 'o':
		k.expireSock(s, how)
	case 'v':
		k.abort(s)
	case 'i':
		k.disconnect(s, how)
	case 'z':
		if s.state == closed {
			k.freeSock(s)
		}
	}
}

// mini is the n-th youngest minisock that exists.
func (k *kernel) mini(n int) *mini {
	var all []*mini
	if k.last != nil && !k.last.ended {
		all = append(all, k.last)
	}
	for _, m := range k.minis {
		if m != nil && m != k.last {
			all = append(all, m)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[n&7%len(all)]
}

// staleSegment frees a segment that met a minisock which has ended. Another may use its memory.
func (k *kernel) staleSegment(n int) {
	slot := n & 7 % numMinis
	m := k.minis[slot]
	o := op{Object: aMini, Slot: uint64(slot), State: timeWait, Family: 2, Substate: finWait2 + uint64(n>>3&1)}
	if m != nil {
		o = k.miniOp(m)
	}
	if k.hooks == tracepoints {
		k.fire(opKfreeSKB, o, firing{mini: m, stale: m == nil})
	}
}

// sweep looks for what is gone although no program was run for its end, and for sockets that have
// got their port. If another program is running, no memory changes before.
func (k *kernel) sweep() {
	var all []settled
	if n := len(k.ops); n == 0 || k.ops[n-1].Nest == 0 {
		for _, s := range k.socks {
			if s == nil {
				continue
			}
			k.push(k.sockOp(s))
			if (s.state == synSent || s.state == listen && s.role == listener) && s.sport != 0 {
				all = append(all, settled{s, s.state, s.sport, s.role, s.owner})
			}
		}
		for _, m := range k.minis {
			if m != nil {
				k.push(k.miniOp(m)) // with its timer pending
			}
		}
	}
	k.fire(opSweep, op{}, firing{settled: all})
}

// visit is a visit of the iterator. It locks sockets, but not minisocks.
func (k *kernel) visit(what byte, n int) {
	switch {
	case !k.attached:
	case what == '.':
		k.push(op{Code: opAttached})
	case what == '>' && k.socks[n&3] != nil:
		k.fire(opExisting, k.sockOp(k.socks[n&3]), firing{sock: k.socks[n&3], from: k.socks[n&3].state})
	case what == '<' && k.mini(n) != nil:
		m := k.mini(n)
		k.fire(opExisting, k.miniOp(m), firing{mini: m})
	}
}

// garbage fires a hook of the harness with arguments from the script.
func (k *kernel) garbage(arg byte, rest []byte) int {
	const size = 12
	if len(rest) < size {
		return 0
	}
	b := func(i int) uint64 { return uint64(rest[i]) }
	hook := opSetState + code(arg)%(opExisting-opSetState+1)
	o := op{
		Object: aMini, Slot: b(0) & 7, State: b(1) & 15, Family: 2 + b(2)&8, Sport: b(3), Dport: b(4), NetNS: b(5) & 1,
		Substate: b(6) & 15, Expires: k.jiffies(k.now) + b(7)<<6, Pending: b(2) & 1, Timeo: b(8) << 6, Rearm: b(2) >> 1 & 1,
		Parent: 1 + b(9)&3, CopyCookie: b(2) >> 2 & 1, ZeroCookie: b(2) >> 4 & 1,
	}
	if hook == opSetState || hook == opExisting && b(2)&1 == 1 {
		o.Object, o.Slot = aSock, numSocks+b(0)&3
		o.From, o.To, o.Protocol, o.Err, o.Shutdown = b(6), b(7), 6, b(8), b(10)&3
		o.Held = b(10) >> 2 & 1
	}
	k.stack = []uint64{b(11) & 15}
	k.fire(hook, o, firing{garbage: true})
	k.stack = nil
	return size
}
