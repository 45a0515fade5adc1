package target

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"unicode"
)

var be = binary.BigEndian

// Identity of the kernel's target (drivers/target/target_core_device.c, target_core_spc.c). With
// the same identity, the disks' names in a guest's /dev/disk/by-id are the same with both targets.
const (
	vendor   = "LIO-ORG " // T10 VENDOR IDENTIFICATION, 8 characters
	product  = "minivmm disk    "
	revision = "4.0 "
)

// inquiry serves INQUIRY (SPC-4 §6.6).
func (c *call) inquiry() error {
	allocation := uint32(be.Uint16(c.CDB[3:]))
	page := c.CDB[2]
	if c.CDB[1]&1 == 0 {
		if page != 0 {
			return badField(2)
		}
		return c.answer(c.standard(), allocation)
	}
	if c.u == nil {
		return badLUN
	}
	for _, p := range vitalPages {
		if p.code == page {
			data := append([]byte{0, page, 0, 0}, p.body(c.u)...)
			be.PutUint16(data[2:], uint16(len(data)-4))
			return c.answer(data, allocation)
		}
	}
	return badField(2)
}

// standard returns the standard INQUIRY data.
func (c *call) standard() []byte {
	// bytes 2, 3, 4 and 7: the version (SPC-4), the response data format, the additional length,
	// CMDQUE
	p := append([]byte{2: 6, 3: 2, 4: 96 - 5, 7: 2}, vendor+product+revision...)
	if c.u == nil {
		p[0] = 0x7f // no device can be at this LUN
	}
	p = append(p, make([]byte, 96-len(p))...)
	copy(p[58:], "\x00\xa0\x04\x60\x04\xc0") // version descriptors: SAM-5, SPC-4, SBC-3
	return p
}

// vitalPages are the vital product data (VPD) pages.
var vitalPages = []struct {
	code byte
	body func(u *unit) []byte
}{
	{0x00, func(*unit) []byte { return []byte{0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2} }},
	{0x80, func(u *unit) []byte { return []byte(u.Serial) }},
	{0x83, identification},
	{0xb0, blockLimits},
	{0xb1, characteristics},
	{0xb2, provisioning},
}

// identification returns the Device Identification page (SPC-4 §7.8.5): the NAA designator and the
// vendor designator.
func identification(u *unit) []byte {
	id := naa(u.Serial)
	p := append([]byte{0x01, 0x03, 0, byte(len(id))}, id...)
	text := vendor + "minivmm disk:" + u.Serial
	text = text[:min(len(text), 255)]
	return append(append(p, 0x02, 0x01, 0, byte(len(text))), text...)
}

// naa returns an NAA IEEE Registered Extended designator, derived from the serial number as the
// kernel's target does (spc_gen_naa_6h_vendor_specific): NAA 6h, OpenFabrics' company id 001405h,
// then up to 25 hexadecimal digits of the serial number; other characters are skipped.
func naa(serial string) []byte {
	digits := strings.Map(func(r rune) rune {
		if !unicode.Is(unicode.ASCII_Hex_Digit, r) {
			return -1
		}
		return r
	}, serial)
	id, _ := hex.DecodeString(("6001405" + digits + strings.Repeat("0", 25))[:32])
	return id
}

// Limits that the Block Limits page reports and that the target enforces.
const (
	maxTransferBytes = 8 << 20 // of one READ, WRITE or VERIFY
	maxUnmapBlocks   = 1 << 22
	maxUnmapRanges   = 64
	maxSameBlocks    = 1 << 16
)

// blockLimits returns the Block Limits page (SBC-3 §6.5.3).
func blockLimits(u *unit) []byte {
	p := make([]byte, 60)
	p[0] = 1 // WSNZ: WRITE SAME of 0 blocks is not supported
	be.PutUint32(p[4:], uint32(maxTransferBytes/u.BlockSize))
	if u.frees() {
		be.PutUint32(p[16:], maxUnmapBlocks)
		be.PutUint32(p[20:], maxUnmapRanges)
		be.PutUint32(p[24:], uint32(max(1, u.Granularity/u.BlockSize)))
	}
	if !u.ReadOnly {
		be.PutUint64(p[32:], maxSameBlocks)
	}
	return p
}

// characteristics returns the Block Device Characteristics page (SBC-3 §6.5.2). It reports a
// non-rotating medium, so that the guest does not optimize for seeks.
func characteristics(*unit) []byte {
	p := make([]byte, 60)
	p[1] = 1
	return p
}

// frees reports whether the unit can deallocate blocks.
func (u *unit) frees() bool { return !u.ReadOnly && u.Unmap != UnmapNothing }

// provisioning returns the Logical Block Provisioning page (SBC-3 §6.5.4): whether UNMAP and WRITE
// SAME deallocate blocks, and whether deallocated blocks read as zero.
func provisioning(u *unit) []byte {
	switch {
	case !u.frees():
		return []byte{0, 0, 0, 0}
	case u.Unmap == UnmapAnything:
		return []byte{0, 0x80, 2, 0} // LBPU; thin
	}
	return []byte{0, 0xe4, 2, 0} // LBPU, LBPWS, LBPWS10, LBPRZ; thin
}
