package kernel

import (
	"fmt"
	"io/fs"
	"strings"
)

// InputError reports that a name, a kernel or a modules folder that the user gave cannot be used.
type InputError struct{ Err error }

func (e *InputError) Error() string { return e.Err.Error() }
func (e *InputError) Unwrap() error { return e.Err }

// NotHereError reports that the store does not contain the kernel. It matches fs.ErrNotExist.
type NotHereError struct{ Name string } // "" for the default

func (e *NotHereError) Error() string {
	if e.Name == "" {
		return "kernel: no default kernel yet: fetch one with minivmm kernel fetch"
	}
	if _, err := parseRequest(e.Name); err != nil {
		return fmt.Sprintf("kernel: %q is not in the store: minivmm kernel list shows its kernels", e.Name)
	}
	return fmt.Sprintf("kernel: %q is not in the store: fetch it with minivmm kernel fetch %s", e.Name, e.Name)
}

func (e *NotHereError) Is(target error) bool { return target == fs.ErrNotExist }

// AmbiguousError reports that a name matches more than one kernel.
type AmbiguousError struct {
	Name string
	IDs  []string
}

func (e *AmbiguousError) Error() string {
	short := make([]string, len(e.IDs))
	for i, id := range e.IDs {
		short[i] = id[:shownID]
	}
	return fmt.Sprintf("kernel: %q matches more than one kernel: %s: use a longer part of the ID", e.Name, strings.Join(short, ", "))
}
