package disk

import "fmt"

// InputError reports that the caller's request cannot be fulfilled, such as a size that is too
// small or a file of the wrong kind.
type InputError struct{ text string }

func (e *InputError) Error() string { return e.text }

func inputErrorf(format string, args ...any) error {
	return &InputError{fmt.Sprintf(format, args...)}
}
