package tracer

import "time"

// A LiveSocket is a socket that exists, and since when it is in its state.
type LiveSocket struct {
	Cookie    uint64        // SO_COOKIE. After disconnect(2) a socket and its minisock have the same one
	State     State         // never NewSynRecv
	Since     time.Duration // when the state began, or could have begun at the latest: CLOCK_MONOTONIC
	Precision Precision     // of Since, never PrecisionUnknown
	Role      Role
}
