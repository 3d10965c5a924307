package cgroup

import "io/fs"

// A NotFoundError says that no cgroup has a name now. It is fs.ErrNotExist.
type NotFoundError struct{ Why string }

func (e *NotFoundError) Error() string { return e.Why }

// Is reports whether the target is fs.ErrNotExist.
func (e *NotFoundError) Is(target error) bool { return target == fs.ErrNotExist }
