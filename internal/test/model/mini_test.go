package model

// This file has the actions of minisocks.

// timeWaitSock is tcp_time_wait(): a minisock takes over, if the namespace has room for it.
func (k *kernel) timeWaitSock(s *sock, substate, timeout uint64) {
	slot := -1
	for i := range k.minis {
		if k.minis[i] == nil {
			slot = i
		}
	}
	if slot < 0 || k.overflow {
		was := k.overflow
		k.overflow = true
		k.refused[k.cpu]++
		k.setState(s, closed, firing{reason: timeWaitOverflow})
		k.overflow = was
		return
	}
	m := &mini{
		slot: slot, of: s, sport: s.sport, net: s.net, owner: s.owner, role: s.role,
		from: s.state, fromEntered: s.entered, substate: substate, bornAt: k.now,
	}
	k.minis[slot], k.last = m, m
	if substate == timeWait {
		m.twLo = k.now
	}
	o := k.miniOp(m)
	o.Code, o.Parent, o.CopyCookie = opNewMini, uint64(s.slot)+1, 1
	k.push(o)
	o = k.miniOp(m)
	o.Parent = uint64(s.slot) + 1
	if k.hooks == fentry {
		k.fire(opTwskAlloc, o, firing{mini: m, born: true})
	}
	k.arm(m, timeout, false)
	if substate == timeWait {
		m.twHi = k.now
	}
	// From here on a segment on another CPU can find the minisock.
	k.cpu = 1
	for _, c := range k.windows {
		k.segment(m, c)
	}
	k.windows, k.cpu = nil, 0
	k.setState(s, closed, firing{made: m, closer: 0})
}

// arm is __inet_twsk_schedule(). If the timer stays in its slot of the wheel, no hook reports that
// it was moved (__mod_timer()).
func (k *kernel) arm(m *mini, timeout uint64, rearm bool) {
	o := k.miniOp(m)
	o.Timeo = timeout
	if rearm {
		o.Rearm = 1
	}
	if k.hooks == fentry {
		k.fire(opTwskSchedule, o, firing{mini: m, born: !rearm})
	}
	if rearm && !m.pending {
		return // mod_timer_pending()
	}
	old := m.expires
	m.lastArmed = k.now
	if !rearm {
		m.expires, m.pending = k.jiffies(k.now)+timeout, true
		if k.hooks != fentry {
			k.fire(opTimerStart, k.miniOp(m), firing{mini: m, born: true})
		}
		return
	}
	expires := k.jiffies(k.now) + timeout
	moves := wheelIndex(old) != wheelIndex(expires)
	if moves && k.hooks != fentry {
		k.in(0, []uint64{callerRearm, callerSegment, callerReceive}, func() {
			k.fire(opTimerCancel, k.miniOp(m), firing{mini: m})
		})
	}
	m.expires = expires
	if moves && k.hooks != fentry {
		k.fire(opTimerStart, k.miniOp(m), firing{mini: m})
	}
}

func wheelIndex(expires uint64) uint64 { return (expires + wheelSlot) / wheelSlot }

// dropped frees a segment that met a minisock. stale: the minisock has ended meanwhile.
func (k *kernel) dropped(m *mini, stale bool) {
	if k.hooks == tracepoints {
		k.fire(opKfreeSKB, k.miniOp(m), firing{mini: m, stale: stale})
	}
}

// segment is tcp_timewait_state_process(), with what tcp_v4_rcv() does after it. It also has the
// other ends of a minisock.
func (k *kernel) segment(m *mini, what byte) {
	if m == nil || m.ended {
		return
	}
	receive := []uint64{callerDelete, callerReceive}
	switch what {
	case 'F': // a FIN
		if m.substate == finWait2 {
			m.substate, m.twLo = timeWait, k.now
			k.arm(m, minute, true)
			k.dropped(m, false)
			m.twHi = k.now
			return
		}
		m.rearms++
		k.arm(m, minute, true)
		k.dropped(m, false)
	case 'B': // tcp_v4_rcv() lets go of the minisock between TCP_TW_RST and its end
		if m.substate != finWait2 {
			return
		}
		k.answer(m, 1<<8)
		k.segment(m, 'F')
		why := firing{reason: rstSent, detail: dataAfterClose}
		if k.hooks == tracepointsNoRxSk {
			why = firing{reason: killed}
		}
		k.kill(m, receive, why)
		k.dropped(m, true)
	case 'T': // nf_tproxy_handle_time_wait4()
		if m.substate == timeWait {
			k.kill(m, []uint64{callerDelete, callerTproxy}, k.recycles(m))
		}
	case 'D': // data
		if m.substate == finWait2 {
			k.answer(m, 1<<8)
			k.kill(m, receive, k.answered(dataAfterClose))
			k.dropped(m, true)
			return
		}
		m.rearms++
		k.arm(m, minute, true)
		k.dropped(m, false)
	case 'O': // a segment without effect
		k.dropped(m, false)
	case 'R':
		k.kill(m, []uint64{callerDelete, callerSegment, callerReceive}, firing{reason: rstReceived})
		k.dropped(m, true)
	case 'Y': // a SYN
		if m.substate == finWait2 {
			k.answer(m, 2)
			k.kill(m, receive, k.answered(synSegment))
			k.dropped(m, true)
			return
		}
		k.kill(m, receive, k.recycles(m))
	case 'C':
		k.kill(m, []uint64{callerDelete, callerConnect}, firing{reason: reused})
	case 'K':
		k.kill(m, []uint64{callerDelete, callerAbort}, firing{reason: destroyed})
	case 'N':
		k.kill(m, []uint64{callerDelete, callerPurge}, firing{reason: netnsRemoved})
	case 'U':
		k.kill(m, []uint64{callerDelete}, firing{reason: killed})
	case 'E':
		k.expire(m)
	}
}

// answer is tcp_v4_send_reset() for a segment of these flags, and with data above the lowest byte.
func (k *kernel) answer(m *mini, segment uint64) {
	if k.hooks == tracepointsNoRxSk {
		return // the tracepoint does not fire for minisocks
	}
	o := k.miniOp(m)
	o.Segment = segment
	k.fire(opSendReset, o, firing{mini: m})
}

// answered is the end of a minisock that follows.
func (k *kernel) answered(detail uint64) firing {
	if k.hooks == tracepointsNoRxSk {
		detail = noDetail
	}
	return firing{reason: rstSent, detail: detail}
}

// recycles is the end by a SYN. Just after its FIN, that looks like an RST on another CPU.
func (k *kernel) recycles(m *mini) firing {
	if k.hooks == tracepointsNoRxSk && k.jiffies(k.now)-k.jiffies(m.lastArmed) <= 2 {
		return firing{reason: killed}
	}
	return firing{reason: recycled}
}

// kill is inet_twsk_deschedule_put().
func (k *kernel) kill(m *mini, stack []uint64, why firing) {
	why.mini, why.end = m, true
	m.pending = false
	m.ended = true
	k.in(0, stack, func() {
		c := opTimerCancel
		if k.hooks == fentry {
			c = opTwskKill
		}
		k.fire(c, k.miniOp(m), why)
	})
	k.minis[m.slot] = nil
	k.gone++
}

// expire is tw_timer_handler().
func (k *kernel) expire(m *mini) {
	m.pending = false
	m.ended = true
	k.in(0, []uint64{callerTimer}, func() {
		if k.hooks == fentry {
			k.fire(opTwskKill, k.miniOp(m), firing{mini: m, end: true, reason: expired})
			return
		}
		k.fire(opTimerCancel, k.miniOp(m), firing{mini: m})
		k.fire(opTimerExpire, k.miniOp(m), firing{mini: m, end: true, reason: expired})
	})
	k.minis[m.slot] = nil
	k.gone++
}

// pass lets time pass and fires the timers.
func (k *kernel) pass(ns uint64) {
	until := k.now + ns
	for {
		var due *mini
		at := until
		for _, m := range k.minis {
			if m == nil || !m.pending {
				continue
			}
			if fires := max(k.now, wheelIndex(m.expires)*wheelSlot*jiffy); fires <= at {
				due, at = m, fires
			}
		}
		k.now = at
		if due == nil {
			return
		}
		k.expire(due)
	}
}
