//go:build !linux

// Package cgroup finds cgroup v2 directories by path, and their paths by number.
package cgroup

import "errors"

var errNotLinux = errors.New("only Linux has cgroups")

// Find fails.
func Find(string) (id uint64, level uint32, path string, err error) { return 0, 0, "", errNotLinux }

// Tree fails.
func Tree() (map[uint64]string, error) { return nil, errNotLinux }

// Root fails.
func Root() (string, error) { return "", errNotLinux }

// TreeAt fails.
func TreeAt(string) (map[uint64]string, error) { return nil, errNotLinux }
