package tracer

// A SocketHolder is a descriptor of a process that is a TCP socket.
type SocketHolder struct {
	Process
	Parent uint32 // pid
	FD     uint32
	Inode  uint64 // of the socket, as sock_diag(7) and /proc/PID/fd show it

	// The options that decide whether another socket may be bound to the same port
	// (inet_bind_conflict(), net/ipv4/inet_connection_sock.c).
	Listens   bool
	ReuseAddr bool // SO_REUSEADDR
	ReusePort bool // SO_REUSEPORT
}
