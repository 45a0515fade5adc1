package target

import (
	"bytes"
	"slices"
)

const (
	allPages = 0x3f // mode page code: all pages
	caching  = 0x08 // code of the Caching page
	wce      = 0x04 // WCE, in byte 2 of the Caching page
)

// modePages are the mode pages (SPC-4 §7.5, SBC-3 §6.4) with the values that are the same for all
// units. Each page consists of its code, the number of bytes that follow that number, and those
// bytes.
var modePages = [][]byte{
	{0x01, 0x0a, 11: 0},                               // Read-Write Error Recovery
	{caching, 0x12, 12: 0x20, 19: 0},                  // Caching: DRA
	{0x0a, 0x0a, 0x02, 0x10, 8: 0xff, 9: 0xff, 11: 0}, // Control: GLTSD, D_SENSE 0 (fixed format), reordering
	{0x1c, 0x0a, 11: 0},                               // Informational Exceptions Control
}

// modePage returns a copy of a page. In the Caching page, the write cache is enabled unless the
// argument through (write-through) is true or the unit is read-only.
func (u *unit) modePage(page []byte, through bool) []byte {
	p := bytes.Clone(page)
	if p[0] == caching && !through && !u.ReadOnly {
		p[2] |= wce
	}
	return p
}

// changeable returns the bits of a page's byte 2 that MODE SELECT can change. A disk that the host
// configured as write-through stays write-through.
func (u *unit) changeable(code byte) byte {
	if code != caching || u.Writethrough || u.ReadOnly {
		return 0
	}
	return wce
}

// pages returns the mode pages that bytes 2 and 3 of a MODE SENSE command select.
func (c *call) pages() ([]byte, error) {
	control, code, sub := c.CDB[2]>>6, c.CDB[2]&0x3f, c.CDB[3]
	if control == 3 {
		return nil, noSaving
	}
	if sub != 0 && (sub != 0xff || code != allPages) {
		return nil, badField(3)
	}
	var all []byte
	for _, page := range modePages {
		if code != page[0] && code != allPages {
			continue
		}
		switch control {
		case 0: // current values
			page = c.u.modePage(page, c.u.through.Load())
		case 1: // changeable values
			page = append([]byte{page[0], page[1], c.u.changeable(page[0])}, make([]byte, len(page)-3)...)
		case 2: // default values
			page = c.u.modePage(page, c.u.Writethrough)
		}
		all = append(all, page...)
	}
	if all == nil {
		return nil, badField(2)
	}
	return all, nil
}

// blockDescriptor returns the unit's only block descriptor, in the short or the long format (SBC-3
// §6.4.2).
func (u *unit) blockDescriptor(long bool) []byte {
	if long {
		return be.AppendUint64(be.AppendUint64(nil, u.blocks.Load()), uint64(u.BlockSize))
	}
	p := be.AppendUint32(nil, uint32(min(u.blocks.Load(), 0xffffffff)))
	return be.AppendUint32(p, uint32(u.BlockSize))
}

// modeSense serves MODE SENSE (6) and (10) (SPC-4 §6.14).
func (c *call) modeSense() error {
	pages, err := c.pages()
	if err != nil {
		return err
	}
	ten := c.CDB[0] == 0x5a
	specific := byte(0x10) // DPOFUA
	if c.u.ReadOnly {
		specific |= 0x80 // WP
	}
	var desc []byte
	var long byte
	if c.CDB[1]&8 == 0 { // DBD
		if ten {
			long = c.CDB[1] >> 4 & 1 // LLBAA
		}
		desc = c.u.blockDescriptor(long != 0)
	}
	data := append(desc, pages...)
	if !ten {
		header := []byte{byte(3 + len(data)), 0, specific, byte(len(desc))}
		return c.answer(append(header, data...), uint32(c.CDB[4]))
	}
	header := append(be.AppendUint16(nil, uint16(6+len(data))), 0, specific, long, 0, 0, byte(len(desc)))
	return c.answer(append(header, data...), uint32(be.Uint16(c.CDB[7:])))
}

// modeSelect serves MODE SELECT (6) and (10) (SPC-4 §6.11). The parameter list is a header, block
// descriptors and pages. All checks precede the first change. Only the write cache setting can be
// changed. The setting is not saved: PowerOn restores the default when a new driver starts.
func (c *call) modeSelect() error {
	length, header := int(c.CDB[4]), 4
	if c.CDB[0] == 0x55 {
		length, header = int(be.Uint16(c.CDB[7:])), 8
	}
	if c.CDB[1]&1 != 0 { // SP
		return badField(1)
	}
	if length == 0 {
		return nil
	}
	p, err := c.parameters(length)
	if err != nil {
		return err
	}
	if length < header {
		return badListLength
	}
	at, long := header+int(p[3]), false
	if header == 8 {
		at, long = header+int(be.Uint16(p[6:])), p[4]&1 != 0 // LONGLBA
	}
	if at > length {
		return badListLength
	}
	if desc := p[header:at]; len(desc) > 0 {
		if want := c.u.blockDescriptor(long); len(desc) != len(want) || string(desc[len(desc)-3:]) != string(want[len(want)-3:]) {
			return badParameter(uint16(header)) // the block size cannot be changed
		}
	}
	through := c.u.through.Load()
	for at < length {
		// Subpages are not supported: their codes have bit 6 set, so no page matches.
		i := slices.IndexFunc(modePages, func(page []byte) bool { return page[0] == p[at]&0x7f })
		if i < 0 {
			return badParameter(uint16(at))
		}
		now, changeable := c.u.modePage(modePages[i], through), c.u.changeable(modePages[i][0])
		end := at + len(now)
		if end > length || p[at+1] != now[1] {
			return badListLength
		}
		now[2] ^= (now[2] ^ p[at+2]) & changeable
		for i := 2; i < len(now); i++ {
			if p[at+i] != now[i] {
				return badParameter(uint16(at + i))
			}
		}
		if changeable != 0 {
			through = now[2]&wce == 0
		}
		at = end
	}
	if through && !c.u.through.Swap(true) {
		return c.flush() // make data that is already cached durable
	}
	c.u.through.Store(through)
	return nil
}
