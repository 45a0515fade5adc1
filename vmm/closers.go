package vmm

import (
	"errors"
	"fmt"
)

// closers undoes what was done, last first. It serves both a New that failed
// and Close.
type closers struct {
	steps []closer
}

type closer struct {
	name string
	fn   func() error
}

// push remembers how to undo a step, and what to call it in an error.
func (c *closers) push(name string, fn func() error) {
	c.steps = append(c.steps, closer{name, fn})
}

// close undoes every step, whatever fails. A second call does nothing.
func (c *closers) close() error {
	var errs []error
	for len(c.steps) > 0 {
		last := c.steps[len(c.steps)-1]
		c.steps = c.steps[:len(c.steps)-1]
		if err := last.fn(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", last.name, err))
		}
	}
	return errors.Join(errs...)
}
