package target

import "fmt"

// rescan asks the store for its size, and leaves a unit attention condition if
// that has changed. What is no whole block at the end is left out.
func (u *unit) rescan() (changed bool, err error) {
	u.rescanning.Lock() // an older size must not come after a newer one
	defer u.rescanning.Unlock()
	size, err := u.Store.Size()
	if err != nil {
		return false, err
	}
	blocks := uint64(size) / uint64(u.BlockSize)
	if blocks == 0 {
		return false, fmt.Errorf("%d bytes are no block", size)
	}
	if u.blocks.Swap(blocks) == blocks {
		return false, nil
	}
	u.attention.Or(attentionCapacity)
	return true, nil
}

// Rescan looks whether the stores' sizes have changed, and returns the logical
// units where they have: their next command, and READ CAPACITY, tells the
// initiator. A store that cannot say its size, or has become empty, keeps the
// one that it had, with an error.
func (t *Target) Rescan() (changed []uint16, err error) {
	for i, u := range t.units {
		resized, e := u.rescan()
		if resized {
			changed = append(changed, uint16(i))
		}
		if e != nil && err == nil {
			err = fmt.Errorf("disk %d: %w", i, e)
		}
	}
	return changed, err
}

// SizeBytes is the size of a logical unit as its initiator learns it.
func (t *Target) SizeBytes(lun uint16) uint64 {
	u := t.units[lun]
	return u.blocks.Load() * uint64(u.BlockSize)
}
