package target

import (
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
	BlockSize    int    // bytes: 512 or 4096
	ReadOnly     bool
	Writethrough bool   // a write is durable when it completes
	Serial       string // unit serial number: printable, at most 253 characters
	Granularity  int    // bytes that the store frees at a time; 0: unknown
	Physical     int    // bytes that the store writes at a time; 0: unknown
	Unmap        Unmap
}

// Unmap is what a store does with blocks that nobody needs.
type Unmap int

// What there is.
const (
	UnmapZeroes   Unmap = iota // it frees them, and they read as zero (Store.Punch)
	UnmapAnything              // it frees them, and they read as anything (Store.Discard)
	UnmapNothing               // it cannot free blocks
)

// unit is a logical unit with its state.
type unit struct {
	Unit
	blocks      atomic.Uint64
	rescanning  sync.Mutex
	read, write lane
	through     atomic.Bool   // a write is durable when it completes: Writethrough, or by MODE SELECT
	stopped     atomic.Bool   // by START STOP UNIT
	attention   atomic.Uint32 // unit attention conditions, by bit of attentions
}

// attentions are the unit attention conditions, the one to report first first
// (SPC-4 §5.14, SAM-5 §5.14).
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

// attend takes the next unit attention condition, if there is one.
func (u *unit) attend() (sense, bool) {
	for {
		pending := u.attention.Load()
		if pending == 0 {
			return sense{}, false
		}
		i := bits.TrailingZeros32(pending)
		if u.attention.CompareAndSwap(pending, pending&^(1<<i)) {
			return attentions[i], true
		}
	}
}

// inRange checks a range of blocks.
func (u *unit) inRange(lba uint64, blocks uint64) error {
	if all := u.blocks.Load(); lba > all || blocks > all-lba || (lba == all && blocks == 0) {
		return outOfRange(max(lba, all))
	}
	return nil
}

// stoppedAt is the block where an error came after that many bytes from lba on:
// the first that is not known to be good.
func (u *unit) stoppedAt(lba uint64, moved int) uint64 { return lba + uint64(moved/u.BlockSize) }

// Target is a set of logical units, numbered from 0.
type Target struct {
	units    []*unit
	commands []command
	byOpcode [256][]*command
}

// MaxUnits is how many logical units a target can have: peripheral device
// addressing (SAM-5 §4.7.7.2).
const MaxUnits = 256

// New makes a target and takes the stores.
func New(units []Unit) (*Target, error) {
	t := &Target{commands: commands[:]}
	for i := range t.commands {
		c := &t.commands[i]
		t.byOpcode[c.opcode] = append(t.byOpcode[c.opcode], c)
	}
	for i, u := range units {
		if u.BlockSize != 512 && u.BlockSize != 4096 || u.SizeBytes == 0 || u.SizeBytes%uint64(u.BlockSize) != 0 {
			return nil, fmt.Errorf("disk %d: %d bytes in blocks of %d", i, u.SizeBytes, u.BlockSize)
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
	Serial       string // "": made from the path
	BlockSize    int    // bytes: 512 (also 0) or 4096; a block device has at least its own
}

// Open opens the disks and locks them as package diskimage does. Disk n is
// logical unit n.
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
		u := Unit{ReadOnly: d.ReadOnly, Writethrough: d.Writethrough, Serial: d.Serial, BlockSize: d.BlockSize}
		if u.Serial == "" {
			u.Serial = diskimage.Serial(d.Path)
		}
		img, err := diskimage.Open(diskimage.Options{Path: d.Path, ReadOnly: d.ReadOnly, BlockSize: d.BlockSize})
		if err != nil {
			return nil, fmt.Errorf("disk %d: %w", i, err)
		}
		u.Store, u.SizeBytes = NewFile(img.File), img.SizeBytes
		u.BlockSize, u.Physical = img.BlockSize, img.Physical
		u.Granularity, u.Unmap = provisions(img)
		units = append(units, u)
	}
	return New(units)
}

// provisions is what a disk frees at a time, in bytes, 0 if it does not say,
// and what freed blocks read as.
func provisions(img diskimage.Image) (granularity int, how Unmap) {
	granularity, zeroes, ok := img.Discards()
	switch {
	case !ok:
		return 0, UnmapNothing
	case zeroes:
		return granularity, UnmapZeroes
	}
	return granularity, UnmapAnything
}

// Units is how many logical units there are.
func (t *Target) Units() int { return len(t.units) }

// PowerOn is what a new initiator finds: every unit started, with a unit
// attention condition.
func (t *Target) PowerOn() {
	for _, u := range t.units {
		u.stopped.Store(false)
		u.through.Store(u.Writethrough)
		u.attention.Store(attentionPowerOn)
	}
}

// ResetUnit is what is left of LOGICAL UNIT RESET once no command of the unit
// is under way: a unit attention condition. A write cache that MODE SELECT
// switched off stays off, though SPC-4 wants the default back: Linux does not
// read the Caching page again, and would send no flushes. It goes back with
// PowerOn, when a driver begins anew.
func (t *Target) ResetUnit(lun uint16) { t.units[lun].reset(attentionReset) }

// ResetNexus is the same of I_T NEXUS RESET, for all units.
func (t *Target) ResetNexus() {
	for _, u := range t.units {
		u.reset(attentionPowerOn)
	}
}

func (u *unit) reset(attention uint32) {
	u.stopped.Store(false)
	u.attention.Or(attention)
}

// Close closes the stores, which unlocks them.
func (t *Target) Close() error {
	var first error
	for _, u := range t.units {
		if err := u.Store.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}
