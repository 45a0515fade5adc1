package target

// modeSelect6 serves MODE SELECT (6) (SPC-4 §6.11).
func (c *call) modeSelect6() error {
	return c.modeSelect(int(c.CDB[4]), 4, func(p []byte) int { return int(p[3]) })
}

// modeSelect10 serves MODE SELECT (10).
func (c *call) modeSelect10() error {
	return c.modeSelect(int(be.Uint16(c.CDB[7:])), 8, func(p []byte) int { return int(be.Uint16(p[6:])) })
}

// modeSelect parses a parameter list: a header, block descriptors and pages. descriptors returns
// the length of the block descriptors from the header. All checks precede the first change. Only
// the write cache setting can be changed. It is not saved: PowerOn, when a new driver starts,
// restores the default.
func (c *call) modeSelect(length, header int, descriptors func([]byte) int) error {
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
	at := header + descriptors(p)
	if at > length {
		return badListLength
	}
	if desc := p[header:at]; len(desc) > 0 {
		long := header == 8 && p[4]&1 != 0 // LONGLBA
		if want := c.u.blockDescriptor(long); len(desc) != len(want) || string(desc[len(desc)-3:]) != string(want[len(want)-3:]) {
			return badParameter(uint16(header)) // the block size cannot be changed
		}
	}
	through := c.u.through.Load()
	for at < length {
		page := findMode(p[at] & 0x7f)
		if page == nil {
			return badParameter(uint16(at))
		}
		end := at + 2 + int(page.length)
		if end > length || p[at+1] != page.length {
			return badListLength
		}
		now := make([]byte, 2+int(page.length))
		page.fill(c.u, through, now)
		for i := 2; i < len(now); i++ {
			differs := p[at+i] ^ now[i]
			if i == 2 {
				differs &^= page.changeable(c.u)
			}
			if differs != 0 {
				return badParameter(uint16(at + i))
			}
		}
		if page.changeable(c.u)&wce != 0 {
			through = p[at+2]&wce == 0
		}
		at = end
	}
	if through && !c.u.through.Swap(true) {
		return c.flush() // make data that is already cached durable
	}
	c.u.through.Store(through)
	return nil
}

// findMode returns the page with that code, or nil. Subpages are not supported: their codes have
// bit 6 set, so none matches.
func findMode(code byte) *modePage {
	for i := range modePages {
		if modePages[i].code == code {
			return &modePages[i]
		}
	}
	return nil
}
