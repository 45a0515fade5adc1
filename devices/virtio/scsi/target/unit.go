package target

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"minivmm/internal/diskimage"
)

// Unit describes a logical unit.
type Unit struct {
	Store        Store
	SizeBytes    uint64 // a multiple of BlockSize
	BlockSize    int    // in bytes: 512 or 4096
	ReadOnly     bool
	Writethrough bool   // a write is durable when it completes
	Serial       string // unit serial number: printable, at most 253 characters
	Granularity  int    // how many bytes the store frees at a time; 0: unknown
	Physical     int    // how many bytes the store writes at a time; 0: unknown
	Unmap        Unmap
}

// Unmap is what a store does with unmapped blocks.
type Unmap int

// Values of Unmap.
const (
	UnmapZeroes   Unmap = iota // frees blocks, which then read as zero (Store.Punch)
	UnmapAnything              // frees blocks, whose contents are then undefined (Store.Discard)
	UnmapNothing               // cannot free blocks
)

// unit is a logical unit with its state.
type unit struct {
	Unit
	blocks      atomic.Uint64
	rescanning  sync.Mutex
	read, write lane
	through     atomic.Bool   // a write is durable when it completes: Writethrough, or by MODE SELECT
	stopped     atomic.Bool   // set by START STOP UNIT
	attention   atomic.Uint32 // unit attention conditions: bit i is attentions[i]
}

// attentions are the unit attention conditions in the order in which they are reported (SPC-4
// §5.14, SAM-5 §5.14).
var attentions = [...]sense{
	{key: keyUnitAttention, asc: 0x29},          // POWER ON, RESET, OR BUS DEVICE RESET OCCURRED
	{key: keyUnitAttention, asc: 0x29, ascq: 3}, // BUS DEVICE RESET FUNCTION OCCURRED
	{key: keyUnitAttention, asc: 0x2a, ascq: 9}, // CAPACITY DATA HAS CHANGED
}

const (
	attentionPowerOn = 1 << iota
	attentionReset
	attentionCapacity
)

// attend removes and returns the next unit attention condition, if there is one.
func (u *unit) attend() (sense, bool) {
	for pending := u.attention.Load(); pending != 0; pending = u.attention.Load() {
		i := bits.TrailingZeros32(pending)
		if bit := uint32(1) << i; u.attention.And(^bit)&bit != 0 {
			return attentions[i], true
		}
	}
	return sense{}, false
}

// inRange returns an error if a block range extends beyond the end of the unit.
func (u *unit) inRange(lba uint64, blocks uint64) error {
	if all := u.blocks.Load(); lba > all || blocks > all-lba || (lba == all && blocks == 0) {
		return outOfRange(max(lba, all))
	}
	return nil
}

// stoppedAt returns the first block that is not known to be good, after a transfer that started at
// block lba has failed. The argument moved is the number of bytes that were transferred before the
// failure.
func (u *unit) stoppedAt(lba uint64, moved int) uint64 { return lba + uint64(moved/u.BlockSize) }

// rescan reads the size of the store and raises a unit attention condition if the size has changed.
// It ignores an incomplete block at the end.
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

// Target is a set of logical units, numbered from 0.
type Target struct{ units []*unit }

// MaxUnits is the maximum number of logical units of a target with peripheral device addressing
// (SAM-5 §4.7.7.2).
const MaxUnits = 256

// New creates a target. The target owns the stores: Close closes them.
func New(units []Unit) (*Target, error) {
	t := &Target{}
	for i, u := range units {
		if u.BlockSize != 512 && u.BlockSize != 4096 || u.SizeBytes == 0 || u.SizeBytes%uint64(u.BlockSize) != 0 {
			return nil, fmt.Errorf("disk %d: size of %d bytes, block size %d: want a multiple of a block size of 512 or 4096", i, u.SizeBytes, u.BlockSize)
		}
		unit := &unit{Unit: u}
		unit.blocks.Store(u.SizeBytes / uint64(u.BlockSize))
		t.units = append(t.units, unit)
	}
	if len(units) == 0 || len(units) > MaxUnits {
		return nil, fmt.Errorf("%d disks, want 1 to %d", len(units), MaxUnits)
	}
	t.PowerOn()
	return t, nil
}

// Disk is a logical unit over a file or a block device.
type Disk struct {
	Path         string
	ReadOnly     bool
	Writethrough bool
	Serial       string // "": derived from the path
	BlockSize    int    // bytes: 512 (0 means 512) or 4096; a block device uses at least its own block size
}

// Open opens the disks and takes the locks of package diskimage. Disk n is logical unit n. The
// caller must close the target.
func Open(disks []Disk) (_ *Target, err error) {
	var units []Unit
	defer func() {
		for _, u := range units {
			if err != nil {
				u.Store.Close()
			}
		}
	}()
	for i, d := range disks {
		img, err := diskimage.Open(diskimage.Options{Path: d.Path, ReadOnly: d.ReadOnly, BlockSize: d.BlockSize})
		if err != nil {
			return nil, fmt.Errorf("disk %d: %w", i, err)
		}
		u := Unit{
			Store: NewFile(img.File), SizeBytes: img.SizeBytes, BlockSize: img.BlockSize, Physical: img.Physical,
			ReadOnly: d.ReadOnly, Writethrough: d.Writethrough, Serial: cmp.Or(d.Serial, diskimage.Serial(d.Path)),
			Unmap: UnmapNothing,
		}
		if granularity, zeroes, ok := img.Discards(); ok {
			u.Granularity, u.Unmap = granularity, UnmapAnything
			if zeroes {
				u.Unmap = UnmapZeroes
			}
		}
		units = append(units, u)
	}
	return New(units)
}

// Units returns the number of logical units.
func (t *Target) Units() int { return len(t.units) }

// PowerOn sets the state that a new initiator finds: every unit is started and has a unit attention
// condition.
func (t *Target) PowerOn() {
	for _, u := range t.units {
		u.stopped.Store(false)
		u.through.Store(u.Writethrough)
		u.attention.Store(attentionPowerOn)
	}
}

// ResetUnit completes LOGICAL UNIT RESET: it starts the unit and raises a unit attention condition.
// The unit must have no command in progress. A write cache that MODE SELECT disabled stays
// disabled, although SPC-4 requires the default. The reason is that Linux does not read the Caching
// page again and would send no flushes. PowerOn restores the default when a new driver starts.
func (t *Target) ResetUnit(lun uint16) { t.units[lun].reset(attentionReset) }

// ResetNexus completes I_T NEXUS RESET in the same way, on all units.
func (t *Target) ResetNexus() {
	for _, u := range t.units {
		u.reset(attentionPowerOn)
	}
}

func (u *unit) reset(attention uint32) {
	u.stopped.Store(false)
	u.attention.Or(attention)
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

// Close closes the stores and so releases their locks.
func (t *Target) Close() error {
	var errs []error
	for _, u := range t.units {
		errs = append(errs, u.Store.Close())
	}
	return errors.Join(errs...)
}
