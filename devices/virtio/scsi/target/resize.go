package target

import "fmt"

// rescan reads the size of the store and raises a unit attention condition if it has changed. An
// incomplete block at the end is ignored.
func (u *unit) rescan() (changed bool, err error) {
	u.rescanning.Lock() // a stale size must not overwrite a newer one
	defer u.rescanning.Unlock()
	size, err := u.Store.Size()
	if err != nil {
		return false, err
	}
	blocks := uint64(size) / uint64(u.BlockSize)
	if blocks == 0 {
		return false, fmt.Errorf("size %d bytes is less than one block", size)
	}
	if u.blocks.Swap(blocks) == blocks {
		return false, nil
	}
	u.attention.Or(attentionCapacity)
	return true, nil
}

// Rescan checks whether the sizes of the stores have changed and returns the logical units whose
// size has changed. The initiator learns the new size from the unit attention condition of its next
// command and from READ CAPACITY. If the size of a store cannot be read or the store has become
// empty, the unit keeps its size and Rescan returns an error.
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

// SizeBytes returns the size of a logical unit as the initiator sees it.
func (t *Target) SizeBytes(lun uint16) uint64 {
	u := t.units[lun]
	return u.blocks.Load() * uint64(u.BlockSize)
}
