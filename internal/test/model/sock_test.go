package model

// This file has the actions of full sockets. Each is an action of a process, the peer or a timer,
// and does nothing if it cannot happen in the socket's state.

func (k *kernel) process(s *sock) uint64 { return 100 + uint64(s.slot) }

// listen is inet_csk_listen_start(). how: 1: without bind(), so that the port comes after the state.
func (k *kernel) listen(s *sock, how int) {
	if s.state != closed || !s.held {
		return
	}
	port := 1000 + uint64(s.slot)
	if how != 1 {
		s.sport, s.bound = port, true
		s.inetSport = port
	}
	s.role, s.owner = listener, k.process(s)
	s.life++
	k.in(s.owner, []uint64{callerListen}, func() { k.setState(s, listen, firing{}) })
	s.sport, s.inetSport = port, port
}

// connect is tcp_v4_connect(). how: 1: bound before, of the last slot without naming a port; 2: no port is
// free; 3: takes over the youngest minisock.
func (k *kernel) connect(s *sock, how int) {
	if s.state != closed || !s.held {
		return
	}
	s.shutdown, s.unread, s.unacked, s.softErr = 0, 0, 0, 0
	if how == 1 && s.sport == 0 {
		s.sport, s.bound = 2000+uint64(s.slot), s.slot != numSocks-1
		s.inetSport = s.sport
	}
	s.role, s.owner = client, k.process(s)
	if s.repair {
		s.role = noRole
	}
	if s.subflow == 2 {
		s.owner = 0 // whoever changes the endpoints is not the owner
	}
	s.life++
	k.in(k.process(s), nil, func() {
		k.setState(s, synSent, firing{silent: s.repair})
		if how == 2 && s.sport == 0 {
			k.setState(s, closed, firing{reason: noPort, errno: 99, silent: s.repair})
			return
		}
		if how == 3 {
			k.segment(k.last, 'C')
		}
		if s.sport == 0 {
			s.sport = 3000 + 2*k.cookies + uint64(s.slot)&1
			s.inetSport = s.sport
		}
		s.err, s.retransmits, s.probes = 0, 0, 0 // tcp_connect_init()
		if s.repair {
			k.setState(s, established, firing{restored: true})
			return
		}
		s.packetsOut, s.unacked = 1, 1
		s.seq++
	})
}

// noteError is tcp_v4_err() while the socket is locked. The program is then told of the error, which clears it.
func (k *kernel) noteError(s *sock, err uint64) {
	if s.state != synSent {
		return
	}
	s.softErr = err
	o := k.sockOp(s)
	o.SoftErr = err
	k.fire(opErrorReport, o, firing{sock: s, from: s.state})
}

// connectInUse is tcp_v4_connect() that finds its addresses and ports in use (__inet_check_established()).
func (k *kernel) connectInUse(s *sock) {
	if s.state != closed || !s.held || s.repair {
		return
	}
	s.shutdown, s.softErr = 0, 0
	s.sport, s.bound = 2000+uint64(s.slot), true
	s.inetSport = s.sport
	s.role, s.owner = client, k.process(s)
	if s.subflow == 2 {
		s.owner = 0
	}
	s.life++
	k.in(k.process(s), nil, func() {
		k.setState(s, synSent, firing{})
		k.setState(s, closed, firing{reason: inUse, errno: 99})
	})
}

func (k *kernel) establish(s *sock) {
	if s.state == synSent || s.state == synRecv {
		s.packetsOut = 0
		if s.state == synSent {
			s.unacked, s.softErr = 0, 0
		}
		k.in(0, []uint64{callerReceive}, func() { k.setState(s, established, firing{}) })
	}
}

// cross is a simultaneous open.
func (k *kernel) cross(s *sock) {
	if s.state == synSent {
		k.in(0, []uint64{callerReceive}, func() { k.setState(s, synRecv, firing{}) })
	}
}

// accept is inet_csk_clone_lock() and tcp_rcv_state_process(). how: 1: an RST comes in between.
func (k *kernel) accept(l *sock, how int) {
	if l.state != listen {
		return
	}
	s := k.newSock(l)
	if s == nil {
		return
	}
	s.state, s.entered = listen, l.entered
	s.sport, s.inetSport, s.bound, s.role, s.owner = l.sport, l.inetSport, false, server, l.owner
	s.dport = 40000 + k.cookies
	k.in(0, []uint64{callerReceive}, func() {
		k.setState(s, synRecv, firing{halfMade: k.halfMade})
		if k.halfMade {
			o := k.sockOp(s)
			o.ZeroCookie = 1
			k.push(o)
		}
		if how == 1 {
			k.resetSock(s)
			return
		}
		k.setState(s, established, firing{})
	})
}

// shut is shutdown(SHUT_WR).
func (k *kernel) shut(s *sock) {
	to, ok := map[uint64]uint64{established: finWait1, closeWait: lastAck}[s.state]
	if !ok || !s.held || s.shutdown&shutSend != 0 {
		return
	}
	s.shutdown |= shutSend
	s.unacked = 1
	s.seq++
	pid := k.process(s) + 50 // who closes it later is another process
	k.in(pid, nil, func() { k.setState(s, to, firing{closer: pid}) })
}

// close is __tcp_close(). how: 1: data was not read, or, of a connect(), the process is ending;
// 2: TCP_LINGER2 is -1; 3: SO_LINGER of 0 s.
func (k *kernel) close(s *sock, how int) {
	if !s.held {
		return
	}
	pid := k.process(s)
	closer := pid
	s.shutdown = shutRecv | shutSend
	if s.role == listener {
		s.shutdown = 0
	}
	switch how {
	case 1:
		s.unread++
	case 2:
		s.lingerless = true
	case 3:
		s.lingerZero = true
	}
	fin := uint64(0)
	if s.state == closeWait || s.state == lastAck || s.state == closing {
		fin = 1
	}
	abort := uint64(noDetail)
	switch {
	case s.repair:
		abort = checkpoint
	case s.unread > fin:
		abort = unreadData
	case s.lingerZero:
		abort = lingerZero
	}
	k.in(pid, nil, func() {
		switch {
		case s.state == listen:
			k.setState(s, closed, firing{reason: orderlyClosed, closer: closer})
		case s.state == synSent:
			detail := uint64(byClose)
			if how == 1 {
				k.exiting, detail = true, byExit
			}
			k.setState(s, closed, firing{reason: givenUp, detail: detail, errno: s.softErr, again: max(s.retransmits, s.probes), closer: closer})
			k.exiting = false
		case s.state == closed:
		case s.state == lastAck && s.unacked == 0:
		case abort != noDetail:
			k.setState(s, closed, firing{reason: aborted, detail: abort, closer: closer})
		case s.state == established, s.state == closeWait:
			to := uint64(finWait1)
			if s.state == closeWait {
				to = lastAck
			}
			s.unacked = 1
			s.seq++
			k.setState(s, to, firing{closer: closer})
		case s.state == synRecv:
			s.unacked = 1
			s.seq++
			k.setState(s, finWait1, firing{closer: closer})
		default:
			k.setState(s, s.state, firing{}) // tcp_close_state()
		}
		s.held = false
		if s.state == finWait2 {
			if s.lingerless {
				k.setState(s, closed, firing{reason: aborted, detail: linger2, closer: closer})
				return
			}
			k.timeWaitSock(s, finWait2, minute)
		}
	})
}

var inStateProcess = []uint64{callerStateProcess, callerReceive}

// acknowledge is the ACK of our FIN. how: 1: the socket was locked, so that it waits in FIN_WAIT_2
// itself, with tcp_keepalive_timer(), and not a minisock; 2: it comes with data.
func (k *kernel) acknowledge(s *sock, how int) {
	if s.unacked == 0 || s.state == synSent {
		return
	}
	k.in(0, inStateProcess, func() {
		switch s.state {
		case finWait1:
			s.unacked = 0
			k.setState(s, finWait2, firing{})
			switch {
			case !s.held && s.lingerless:
				k.setState(s, closed, firing{reason: aborted, detail: linger2})
			case !s.held && how == 2:
				k.setState(s, closed, firing{reason: rstSent, detail: dataAfterClose})
			case !s.held && how != 1:
				k.timeWaitSock(s, finWait2, minute)
			}
		case closing:
			s.unacked = 0
			k.timeWaitSock(s, timeWait, minute)
		case lastAck:
			s.unacked = 0
			k.setState(s, closed, firing{reason: orderlyClosed})
		}
	})
}

// finished is tcp_fin(). how: 1: the segment also acknowledges our FIN.
func (k *kernel) finished(s *sock, how int) {
	k.in(0, inStateProcess, func() {
		if s.state == finWait1 && how == 1 {
			s.unacked = 0
			k.setState(s, finWait2, firing{})
		}
		switch s.state {
		case established, synRecv:
			s.shutdown |= shutRecv
			s.unread++
			k.setState(s, closeWait, firing{})
		case finWait1:
			s.shutdown |= shutRecv
			s.unread++
			k.setState(s, closing, firing{})
		case finWait2:
			s.shutdown |= shutRecv
			k.timeWaitSock(s, timeWait, minute)
		}
	})
}

// fail is tcp_done() with an error, after the queue was purged.
func (k *kernel) fail(s *sock, err uint64, f firing, stack ...uint64) {
	s.err, s.packetsOut = err, 0
	f.errno = err
	k.in(0, stack, func() { k.setState(s, closed, f) })
}

// resetSock is tcp_reset() for an RST.
func (k *kernel) resetSock(s *sock) {
	stack := []uint64{callerValidate, callerStateProcess, callerReceive}
	switch s.state {
	case closed, listen:
	case synSent:
		k.fail(s, 111, firing{reason: refused}, callerStateProcess, callerReceive)
	case closeWait:
		k.fail(s, 32, k.resets(s), callerValidate, callerReceive)
	default:
		k.fail(s, 104, k.resets(s), stack...)
	}
}

// resets is why an RST ends a socket.
func (k *kernel) resets(s *sock) firing {
	f := firing{reason: reset}
	if s.unacked == 0 {
		return f
	}
	switch s.state {
	case established, closeWait:
		f.detail = dataUnacked
	case finWait1, lastAck, closing:
		f.detail = finUnacked
	}
	return f
}

// resetFastOpen is tcp_check_req() for a child of TCP Fast Open.
func (k *kernel) resetFastOpen(s *sock) {
	if s.role == server && s.state == finWait1 {
		k.fail(s, 104, k.resets(s), callerCheckReq, callerStateProcess, callerReceive)
	}
}

// unreachable is tcp_v4_err(): an ICMP error that ends connect().
func (k *kernel) unreachable(s *sock, how int) {
	if s.state == synSent {
		k.fail(s, []uint64{113, 13, 92, 64}[how&3], firing{reason: unreachable, again: max(s.retransmits, s.probes)}, callerReceive)
	}
}

// tooManyOrphans is tcp_out_of_resources(), which a timer calls.
func (k *kernel) tooManyOrphans(s *sock) {
	switch s.state {
	case finWait1, closing, lastAck:
		if !s.held && s.unacked > 0 {
			k.in(0, []uint64{callerTimer}, func() { k.setState(s, closed, firing{reason: aborted, detail: orphanLimit}) })
		}
	}
}

// listenerGone is inet_csk_listen_stop(), of a child that nobody has accepted.
func (k *kernel) listenerGone(s *sock) {
	if s.role != server || s.state != established && s.state != closeWait || s.shutdown&shutSend != 0 || s.err != 0 {
		return
	}
	s.held = false
	k.in(destroyer, []uint64{callerListenStop}, func() {
		k.setState(s, closed, firing{reason: aborted, detail: listenerClosed, closer: destroyer})
	})
}

// dataAfterClose is tcp_rcv_state_process() for data that no process can read.
func (k *kernel) dataAfterClose(s *sock) {
	if (s.state == finWait1 || s.state == finWait2) && !s.held {
		k.fail(s, 104, firing{reason: rstSent, detail: dataAfterClose}, inStateProcess...)
	}
}

// expireSock is tcp_write_err(), and tcp_keepalive_timer() for an orphan in FIN_WAIT_2. how: 1: keepalive or
// a closed window, 2: TCP_USER_TIMEOUT.
func (k *kernel) expireSock(s *sock, how int) {
	switch {
	case s.state == closed || s.state == listen:
	case s.state == finWait2 && !s.held:
		f := firing{reason: expired}
		if s.lingerless {
			f = firing{reason: aborted, detail: linger2}
		}
		k.in(0, []uint64{callerKeepalive, callerTimer}, func() { k.setState(s, closed, f) })
	case s.state != finWait2:
		f := firing{reason: timedOut, detail: retransmissions}
		s.retransmits, s.probes, s.userTimeout = 4, 0, 0
		switch {
		case how == 1 && s.state != synSent:
			s.retransmits, s.probes = 0, 3
			f.detail = keepalive
			if s.unacked > 0 {
				f.detail = zeroWindow
			}
		case how == 2 && s.state != synSent:
			s.userTimeout, f.detail = 500, userTimeout
		}
		f.again = max(s.retransmits, s.probes)
		k.fail(s, 110, f, callerTimer)
	}
}

// abort is tcp_abort(), which ss -K calls.
func (k *kernel) abort(s *sock) {
	if s.state == listen {
		k.in(destroyer, []uint64{callerAbort}, func() { k.setState(s, closed, firing{reason: destroyed}) })
	} else if s.state != closed {
		k.fail(s, 103, firing{reason: destroyed}, callerAbort)
	}
}

// disconnect is tcp_disconnect(), which connect(AF_UNSPEC) calls, and in SYN_SENT shutdown() (how: 1). The
// socket can connect again.
func (k *kernel) disconnect(s *sock, how int) {
	if !s.held {
		return
	}
	caller := uint64(callerDisconnect)
	if s.state != closed {
		f := firing{reason: aborted, detail: disconnected, closer: k.process(s)}
		switch {
		case s.state == listen:
			f.reason, f.detail = orderlyClosed, noDetail
		case s.state == lastAck && s.unacked == 0:
			f = firing{reason: orderlyClosed}
		case s.state == synSent:
			f.reason, f.detail, f.errno, f.again = givenUp, byDisconnect, s.softErr, max(s.retransmits, s.probes)
			if how == 1 {
				caller, f.detail = callerShutdown, byShutdown
			}
		}
		k.in(k.process(s), []uint64{caller}, func() { k.setState(s, closed, f) })
	}
	s.shutdown, s.err, s.unacked, s.bound, s.sport, s.packetsOut = 0, 0, 0, false, 0, 0
	s.inetSport, s.softErr, s.unread = 0, 0, 0
	s.seq += 1000
}
