package tracer

// A Listener is a socket in LISTEN with the options that decide whether another socket may be bound
// to its port (inet_bind_conflict(), net/ipv4/inet_connection_sock.c). Connections that it accepts
// inherit them.
type Listener struct {
	Cookie    uint64 // SO_COOKIE
	ReuseAddr bool   // SO_REUSEADDR
	ReusePort bool   // SO_REUSEPORT
}
