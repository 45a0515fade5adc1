package target

// Mode page codes (SPC-4 §7.5, SBC-3 §6.4).
const allPages = 0x3f

// modePage is a mode page: its code, the length of the data after the two-byte header, a function
// that sets the bytes that are not 0, and the bits of byte 2 that MODE SELECT can change.
type modePage struct {
	code, length byte
	fill         func(u *unit, through bool, p []byte)
	changeable   func(u *unit) byte
}

func nothing(*unit) byte { return 0 }

const wce = 0x04 // WCE, of byte 2 of the Caching page

var modePages = []modePage{
	{0x01, 0x0a, func(*unit, bool, []byte) {}, nothing}, // Read-Write Error Recovery
	{0x08, 0x12, func(u *unit, through bool, p []byte) { // Caching
		if !through && !u.ReadOnly {
			p[2] = wce
		}
		p[12] = 0x20 // DRA
	}, func(u *unit) byte {
		// A disk that the host configured as write-through stays write-through.
		if u.Writethrough || u.ReadOnly {
			return 0
		}
		return wce
	}},
	{0x0a, 0x0a, func(_ *unit, _ bool, p []byte) { // Control
		p[2] = 0x02 // GLTSD; D_SENSE 0: fixed format
		p[3] = 0x10 // commands may be reordered
		be.PutUint16(p[8:], 0xffff)
	}, nothing},
	{0x1c, 0x0a, func(*unit, bool, []byte) {}, nothing}, // Informational Exceptions Control
}

// pages returns the mode pages that bytes 2 and 3 of a MODE SENSE ask for.
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
		if code != page.code && code != allPages {
			continue
		}
		p := make([]byte, 2+int(page.length))
		p[0], p[1] = page.code, page.length
		switch control {
		case 0: // current values
			page.fill(c.u, c.u.through.Load(), p)
		case 1: // changeable values
			p[2] = page.changeable(c.u)
		case 2: // default values
			page.fill(c.u, c.u.Writethrough, p)
		}
		all = append(all, p...)
	}
	if all == nil {
		return nil, badField(2)
	}
	return all, nil
}

// specific returns the DEVICE-SPECIFIC PARAMETER: WP, DPOFUA.
func (u *unit) specific() byte {
	if u.ReadOnly {
		return 0x90
	}
	return 0x10
}

// blockDescriptor returns the only block descriptor, short or long (SBC-3 §6.4.2).
func (u *unit) blockDescriptor(long bool) []byte {
	if long {
		return append(be.AppendUint64(nil, u.blocks.Load()), 0, 0, 0, 0, 0, 0, byte(u.BlockSize>>8), byte(u.BlockSize))
	}
	p := be.AppendUint32(nil, uint32(min(u.blocks.Load(), 0xffffffff)))
	return be.AppendUint32(p, uint32(u.BlockSize))
}

// modeSense6 serves MODE SENSE (6) (SPC-4 §6.14).
func (c *call) modeSense6() error {
	pages, err := c.pages()
	if err != nil {
		return err
	}
	var desc []byte
	if c.CDB[1]&8 == 0 { // DBD
		desc = c.u.blockDescriptor(false)
	}
	p := append([]byte{0, 0, c.u.specific(), byte(len(desc))}, append(desc, pages...)...)
	p[0] = byte(len(p) - 1)
	return c.answer(p, uint32(c.CDB[4]))
}

// modeSense10 serves MODE SENSE (10).
func (c *call) modeSense10() error {
	pages, err := c.pages()
	if err != nil {
		return err
	}
	var desc []byte
	var long byte
	if c.CDB[1]&8 == 0 {
		long = c.CDB[1] >> 4 & 1 // LLBAA
		desc = c.u.blockDescriptor(long != 0)
	}
	p := append([]byte{0, 0, 0, c.u.specific(), long, 0, 0, byte(len(desc))}, append(desc, pages...)...)
	be.PutUint16(p, uint16(len(p)-2))
	return c.answer(p, uint32(be.Uint16(c.CDB[7:])))
}
