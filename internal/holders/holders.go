// Package holders finds in /proc the processes that hold sockets.
package holders

// A Process holds a socket.
type Process struct {
	PID  uint32
	Comm [16]byte // zero-terminated, as in the kernel
	FD   uint32   // the lowest of its descriptors of the socket
}
