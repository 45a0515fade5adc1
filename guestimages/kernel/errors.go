package kernel

import (
	"fmt"
	"io/fs"
	"strings"
)

// InputError says that what a person gave is no name, no kernel or no modules folder that can be used.
type InputError struct{ Err error }

func (e *InputError) Error() string { return e.Err.Error() }
func (e *InputError) Unwrap() error { return e.Err }

// NotHereError says that the store has no such kernel; it is fs.ErrNotExist to errors.Is.
type NotHereError struct{ Name string } // "" for the default

func (e *NotHereError) Error() string {
	if e.Name == "" {
		return "kernel: there is no default kernel here yet: minivmm kernel fetch"
	}
	if _, err := parseRequest(e.Name); err != nil {
		return fmt.Sprintf("kernel: %q is not here: minivmm kernel list shows what is", e.Name)
	}
	return fmt.Sprintf("kernel: %q is not here: minivmm kernel fetch %s", e.Name, e.Name)
}

func (e *NotHereError) Is(target error) bool { return target == fs.ErrNotExist }

// AmbiguousError says that a name means more than one kernel.
type AmbiguousError struct {
	Name string
	IDs  []string
}

func (e *AmbiguousError) Error() string {
	short := make([]string, len(e.IDs))
	for i, id := range e.IDs {
		short[i] = id[:shownID]
	}
	return fmt.Sprintf("kernel: %q means more than one kernel: %s: give more of an ID", e.Name, strings.Join(short, ", "))
}
