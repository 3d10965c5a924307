// Package scenario has ways in which a TCP connection ends, each made on
// real sockets in a network namespace of its own, with the transitions that must
// be seen then. Adding one is adding one file, and its name to the table.
package scenario
