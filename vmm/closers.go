package vmm

import (
	"errors"
	"fmt"
)

// closers is a stack of undo steps. A New that fails and Close both run it.
type closers struct {
	steps []closer
}

type closer struct {
	name string
	fn   func() error
}

// push adds a step; name identifies it in errors.
func (c *closers) push(name string, fn func() error) {
	c.steps = append(c.steps, closer{name, fn})
}

// close runs every step, last first, even if some fail. A second call does nothing.
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
