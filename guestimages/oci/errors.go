package oci

import (
	"errors"
	"fmt"
)

// InvalidError reports a problem with the image or its name: the image does not exist, is damaged,
// or is for another platform. Errors of the host or the network are not InvalidErrors.
type InvalidError struct{ error }

func (e InvalidError) Unwrap() error { return e.error }

func invalidf(format string, args ...any) error {
	return InvalidError{fmt.Errorf(format, args...)}
}

// invalid wraps err in an InvalidError unless it already is one.
func invalid(err error) error {
	var marked InvalidError
	if err == nil || errors.As(err, &marked) {
		return err
	}
	return InvalidError{err}
}
