package model

// This file has the actions of full sockets. Each is an action of a process, the peer or a timer,
// and does nothing if it cannot happen in the socket's state.

func (k *kernel) process(s *sock) uint64 { return 100 + uint64(s.slot) }

func (k *kernel) listen(s *sock) {
	if s.state != closed || !s.held {
		return
	}
	s.sport, s.bound = 1000+uint64(s.slot), true
	s.inetSport = s.sport
	s.role, s.owner = listener, k.process(s)
	s.life++
	k.in(s.owner, []uint64{callerListen}, func() { k.setState(s, listen, firing{}) })
}

// connect is tcp_v4_connect(). how: 1: bound before; 2: no port is free; 3: takes over the youngest minisock.
func (k *kernel) connect(s *sock, how int) {
	if s.state != closed || !s.held {
		return
	}
	s.shutdown, s.err, s.unacked = 0, 0, 0
	if how == 1 {
		s.sport, s.bound = 2000+uint64(s.slot), true
		s.inetSport = s.sport
	}
	s.role, s.owner = client, k.process(s)
	if s.subflow == 2 {
		s.owner = 0 // whoever changes the endpoints is not the owner
	}
	s.life++
	k.in(k.process(s), nil, func() {
		k.setState(s, synSent, firing{})
		if how == 2 && !s.bound {
			k.setState(s, closed, firing{reason: noPort})
			return
		}
		if how == 3 {
			k.segment(k.last, 'C')
		}
		if !s.bound {
			s.sport = 3000 + 2*k.cookies + uint64(s.slot)&1
			s.inetSport = s.sport
		}
		s.packetsOut = 1
	})
}

func (k *kernel) establish(s *sock) {
	if s.state == synSent || s.state == synRecv {
		s.packetsOut = 0
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
	k.in(k.process(s), nil, func() { k.setState(s, to, firing{closer: k.process(s)}) })
}

// close is __tcp_close(). how: 1: data was not read; 2: TCP_LINGER2 is -1.
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
	if how == 2 {
		s.lingerless = true
	}
	k.in(pid, nil, func() {
		switch s.state {
		case listen:
			k.setState(s, closed, firing{reason: orderlyClosed, closer: closer})
		case synSent:
			k.setState(s, closed, firing{reason: orderlyClosed, closer: closer})
		case established, closeWait:
			if how == 1 {
				k.setState(s, closed, firing{reason: aborted, closer: closer})
				break
			}
			to := uint64(finWait1)
			if s.state == closeWait {
				to = lastAck
			}
			s.unacked = 1
			k.setState(s, to, firing{closer: closer})
		case synRecv:
			s.unacked = 1
			k.setState(s, finWait1, firing{closer: closer})
		case finWait1, finWait2, closing, lastAck:
			k.setState(s, s.state, firing{}) // tcp_close_state()
		}
		s.held = false
		if s.state == finWait2 {
			if s.lingerless {
				k.setState(s, closed, firing{reason: aborted})
				return
			}
			k.timeWaitSock(s, finWait2, minute)
		}
	})
}

var inStateProcess = []uint64{callerStateProcess, callerReceive}

// acknowledge is the ACK of our FIN. how: 1: the socket was locked, so that it waits in FIN_WAIT_2
// itself, with tcp_keepalive_timer(), and not a minisock.
func (k *kernel) acknowledge(s *sock, how int) {
	if s.unacked == 0 {
		return
	}
	k.in(0, inStateProcess, func() {
		switch s.state {
		case finWait1:
			s.unacked = 0
			k.setState(s, finWait2, firing{})
			if !s.held && s.lingerless {
				k.setState(s, closed, firing{reason: aborted})
			} else if !s.held && how != 1 {
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
			k.setState(s, closeWait, firing{})
		case finWait1:
			s.shutdown |= shutRecv
			k.setState(s, closing, firing{})
		case finWait2:
			s.shutdown |= shutRecv
			k.timeWaitSock(s, timeWait, minute)
		}
	})
}

// fail is tcp_done() with an error.
func (k *kernel) fail(s *sock, err, why uint64, stack ...uint64) {
	s.err = err
	k.in(0, stack, func() { k.setState(s, closed, firing{reason: why}) })
}

// resetSock is tcp_reset() for an RST.
func (k *kernel) resetSock(s *sock) {
	stack := []uint64{callerValidate, callerStateProcess, callerReceive}
	switch s.state {
	case closed, listen:
	case synSent:
		k.fail(s, 111, refused, callerStateProcess, callerReceive)
	case closeWait:
		k.fail(s, 32, reset, callerValidate, callerReceive)
	default:
		k.fail(s, 104, reset, stack...)
	}
}

// dataAfterClose is tcp_rcv_state_process() for data that no process can read.
func (k *kernel) dataAfterClose(s *sock) {
	if (s.state == finWait1 || s.state == finWait2) && !s.held {
		k.fail(s, 104, rstSent, inStateProcess...)
	}
}

// expireSock is tcp_write_err(), and tcp_keepalive_timer() for an orphan in FIN_WAIT_2.
func (k *kernel) expireSock(s *sock) {
	switch {
	case s.state == closed || s.state == listen:
	case s.state == finWait2 && !s.held:
		k.in(0, []uint64{callerKeepalive, callerTimer}, func() { k.setState(s, closed, firing{reason: expired}) })
	case s.state != finWait2:
		k.fail(s, 110, timedOut, callerTimer)
	}
}

// abort is tcp_abort(), which ss -K calls.
func (k *kernel) abort(s *sock) {
	if s.state == listen {
		k.in(destroyer, []uint64{callerAbort}, func() { k.setState(s, closed, firing{reason: destroyed}) })
	} else if s.state != closed {
		k.fail(s, 103, destroyed, callerAbort)
	}
}

// disconnect is tcp_disconnect(), which connect(AF_UNSPEC) calls. The socket can connect again.
func (k *kernel) disconnect(s *sock) {
	if !s.held {
		return
	}
	if s.state != closed {
		why := uint64(aborted)
		var closer uint64
		switch {
		case s.state == listen:
			why, closer = orderlyClosed, k.process(s)
		case s.state == lastAck && s.unacked == 0:
			why = orderlyClosed
		case s.state == synSent && s.sport == 0 && s.inetSport == 0:
			why = noPort
		}
		k.in(k.process(s), nil, func() { k.setState(s, closed, firing{reason: why, closer: closer}) })
	}
	s.shutdown, s.err, s.unacked, s.bound, s.sport = 0, 0, 0, false, 0
	s.inetSport = 0
}
