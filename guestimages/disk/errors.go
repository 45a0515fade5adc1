package disk

import "fmt"

// InputError says that what the caller wants cannot be had: a size that is too small, a file that is not what it should be.
type InputError struct{ text string }

func (e *InputError) Error() string { return e.text }

func inputErrorf(format string, args ...any) error {
	return &InputError{fmt.Sprintf(format, args...)}
}
