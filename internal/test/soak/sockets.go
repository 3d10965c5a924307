//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"finwait/internal/netns"
	"finwait/internal/sockdiag"

	"golang.org/x/sys/unix"
)

// countMinisocks counts the sockets that finwait may keep a minisock's record of.
func countMinisocks() (int, error) {
	return countSockets(1<<unix.BPF_TCP_TIME_WAIT | 1<<unix.BPF_TCP_FIN_WAIT2 | 1<<unix.BPF_TCP_CLOSING)
}

// countFullSockets counts the sockets that may be full ones. The count is too high: a
// socket in FIN_WAIT_2 may be a minisock.
func countFullSockets() (int, error) {
	const neverFull = 1<<unix.BPF_TCP_TIME_WAIT | 1<<unix.BPF_TCP_NEW_SYN_RECV | 1<<unix.BPF_TCP_CLOSE
	return countSockets((1<<unix.BPF_TCP_MAX_STATES - 2) &^ neverFull)
}

// countSockets counts the sockets of all network namespaces.
func countSockets(states uint32) (n int, err error) {
	all, err := allNamespaces()
	if err != nil {
		return 0, fmt.Errorf("find network namespaces: %w", err)
	}
	for _, path := range all {
		var conn *sockdiag.Conn
		if netns.Do(path, func() (err error) { conn, err = sockdiag.Open(); return err }) != nil {
			continue // the namespace was removed meanwhile
		}
		err := conn.List(states, func(*sockdiag.Socket) error { n++; return nil })
		if err = errors.Join(err, conn.Close()); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// allNamespaces extends netns.All with the namespaces that only a thread or only a
// descriptor leads to. A test that runs at the same time may have such namespaces.
func allNamespaces() (map[uint32]string, error) {
	all, err := netns.All()
	if err != nil {
		return nil, err
	}
	for _, pattern := range []string{"/proc/[0-9]*/task/[0-9]*/ns/net", "/proc/[0-9]*/fd/*"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			if target, err := os.Readlink(path); err != nil || !strings.HasPrefix(target, "net:[") {
				continue // not a network namespace, or closed meanwhile
			}
			if inode, err := netns.Inode(path); err == nil && all[inode] == "" {
				all[inode] = path
			}
		}
	}
	return all, nil
}
