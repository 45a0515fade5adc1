package oci

import (
	"errors"
	"fmt"
)

// InvalidError is the fault of the image or of what names it: no such image, damaged or not for this machine. An error of
// the host or of the network is none.
type InvalidError struct{ error }

func (e InvalidError) Unwrap() error { return e.error }

func invalidf(format string, args ...any) error {
	return InvalidError{fmt.Errorf(format, args...)}
}

// invalid marks err unless it is marked already.
func invalid(err error) error {
	var marked InvalidError
	if err == nil || errors.As(err, &marked) {
		return err
	}
	return InvalidError{err}
}
