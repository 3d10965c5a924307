package sockdiag

import (
	"testing"

	"golang.org/x/sys/unix"
)

// The states have the numbers that Linux gives them.
func TestStates(t *testing.T) {
	for own, kernel := range map[int]int{
		established: unix.BPF_TCP_ESTABLISHED,
		closed:      unix.BPF_TCP_CLOSE,
		closeWait:   unix.BPF_TCP_CLOSE_WAIT,
		listen:      unix.BPF_TCP_LISTEN,
		synRecv:     unix.BPF_TCP_SYN_RECV,
		finWait1:    unix.BPF_TCP_FIN_WAIT1,
		finWait2:    unix.BPF_TCP_FIN_WAIT2,
		lastAck:     unix.BPF_TCP_LAST_ACK,
		closing:     unix.BPF_TCP_CLOSING,
		newSynRecv:  unix.BPF_TCP_NEW_SYN_RECV,
	} {
		if own != kernel {
			t.Errorf("state %d: the kernel says %d", own, kernel)
		}
	}
}
