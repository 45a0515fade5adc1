package lio

import (
	"fmt"
	"strings"
)

// Cache says when the guest's writes to an image file are durable. A block device uses its own
// cache and reports it to the guest.
type Cache string

// The cache modes.
const (
	// Writeback keeps writes in the page cache until the guest flushes. This is the default.
	Writeback Cache = "writeback"
	// Writethrough makes each write durable before it completes (O_DSYNC).
	Writethrough Cache = "writethrough"
	// None bypasses the page cache (O_DIRECT); the guest still flushes. The file system must
	// support it.
	None Cache = "none"
)

// SubmitType says which thread executes requests, the backstore's attribute submit_type. It
// requires Linux 6.7; older kernels always use SubmitQueue.
type SubmitType int

// The submit types.
const (
	// SubmitDirect executes requests in the vhost worker, so in the VM's own thread and cgroup.
	// This is the default.
	SubmitDirect SubmitType = iota
	// SubmitQueue passes requests to kernel workers on the same CPU.
	SubmitQueue
)

// value returns the value of the attribute.
func (s SubmitType) value() string {
	if s == SubmitQueue {
		return "2"
	}
	return "1"
}

// LUN is one disk.
type LUN struct {
	Path      string // an existing file or block device
	SizeBytes uint64 // 0: the whole image; a multiple of BlockSize
	ReadOnly  bool
	// Serial is the unit serial number in the guest, from which its names in /dev/disk/by-id are
	// derived. At most 253 printable characters without spaces; "": derived from the path.
	Serial     string
	Product    string // at most 16 printable characters; "": "minivmm disk"
	BlockSize  int    // bytes: 512 (also 0), 1024, 2048 or 4096; files only
	Cache      Cache  // "": Writeback; files only
	SubmitType SubmitType
}

// Config describes the target of one VM.
type Config struct {
	Name string // name of the VM, shown in configfs
	LUNs []LUN  // LUN n is LUNs[n]
}

const (
	defaultProduct = "minivmm disk"
	maxSerial      = 253
	maxProduct     = 16
	maxLUNs        = 256 // LIO's limit per target
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
	case "", Writeback, Writethrough, None:
	default:
		return fmt.Errorf("cache %q, want %q, %q or %q", l.Cache, Writeback, Writethrough, None)
	}
	if l.SubmitType != SubmitDirect && l.SubmitType != SubmitQueue {
		return fmt.Errorf("unknown submit type %d", l.SubmitType)
	}
	if len(l.Serial) > maxSerial || !printable(l.Serial, '!') {
		return fmt.Errorf("serial %q: want at most %d printable characters without spaces", l.Serial, maxSerial)
	}
	if len(l.Product) > maxProduct || !printable(l.Product, ' ') {
		return fmt.Errorf("product %q: want at most %d printable characters", l.Product, maxProduct)
	}
	return nil
}

// printable reports whether s has only ASCII characters from low to '~'.
func printable(s string, low byte) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < rune(low) || r > '~' })
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
