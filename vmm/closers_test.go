package vmm

import (
	"errors"
	"io/fs"
	"slices"
	"testing"
)

func TestClosersRunAllInReverseOnce(t *testing.T) {
	var c closers
	var order []string
	for _, name := range []string{"a", "b", "c"} {
		c.push(name, func() error {
			order = append(order, name)
			if name == "b" {
				return fs.ErrClosed
			}
			return nil
		})
	}
	err := c.close()
	if !errors.Is(err, fs.ErrClosed) || err.Error() != "close b: file already closed" {
		t.Errorf("close = %v", err)
	}
	if want := []string{"c", "b", "a"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	if err := c.close(); err != nil || len(order) != 3 {
		t.Errorf("second close = %v, order %v", err, order)
	}
}
