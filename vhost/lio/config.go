package lio

import (
	"fmt"
	"strings"
)

// Cache determines when the guest's writes to an image file are durable. A block device uses its
// own cache and reports it to the guest.
type Cache string

// The cache modes.
const (
	Writeback    Cache = "writeback"    // when the guest flushes; until then the writes are in the page cache
	Writethrough Cache = "writethrough" // when the write completes (O_DSYNC)
)

// LUN is one disk.
type LUN struct {
	Path     string // an existing file or block device
	ReadOnly bool
	// Serial is the unit serial number. A guest derives the disk's names in /dev/disk/by-id from
	// this number. It consists of at most 253 printable characters without spaces. If Serial is "",
	// Create derives the number from the path.
	Serial    string
	BlockSize int   // in bytes: 512 (0 means 512), 1024, 2048 or 4096; files only
	Cache     Cache // "": Writeback; files only
}

// Config describes the target of one VM.
type Config struct {
	Name string // name of the VM, shown in configfs
	LUNs []LUN  // LUN n is LUNs[n]
}

const (
	maxSerial = 253
	maxLUNs   = 256 // LIO's limit per target
)

// check returns an error for an invalid config.
func (c Config) check() error {
	if len(c.LUNs) == 0 || len(c.LUNs) > maxLUNs {
		return fmt.Errorf("%d disks, want 1 to %d", len(c.LUNs), maxLUNs)
	}
	for i, l := range c.LUNs {
		if err := l.check(); err != nil {
			return fmt.Errorf("disk %d: %w", i, err)
		}
	}
	return nil
}

func (l LUN) check() error {
	switch l.BlockSize {
	case 0, 512, 1024, 2048, 4096:
	default:
		return fmt.Errorf("block size %d, want 512, 1024, 2048 or 4096", l.BlockSize)
	}
	switch l.Cache {
	case "", Writeback, Writethrough:
	default:
		return fmt.Errorf("cache %q, want %q or %q", l.Cache, Writeback, Writethrough)
	}
	unprintable := func(r rune) bool { return r <= ' ' || r > '~' }
	if len(l.Serial) > maxSerial || strings.ContainsFunc(l.Serial, unprintable) {
		return fmt.Errorf("serial %q: want at most %d printable characters without spaces", l.Serial, maxSerial)
	}
	return nil
}

// label converts a VM's name to a valid part of a configfs name.
func label(name string) string {
	const maxLabel = 64
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '_'
	}, name)
	if clean == "" {
		return "vm"
	}
	return clean[:min(len(clean), maxLabel)]
}
