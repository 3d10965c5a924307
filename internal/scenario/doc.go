// Package scenario has the ways in which a TCP connection ends. Each scenario uses real sockets
// in a network namespace of its own, and lists the transitions that must be seen. A new
// scenario needs a file of its own and its name in All.
package scenario
