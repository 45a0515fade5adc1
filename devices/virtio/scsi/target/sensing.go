package target

import "slices"

// requestSense serves REQUEST SENSE (SPC-4 §6.39). It returns a pending unit attention condition,
// or else whether the unit is stopped. All other sense data is returned with its command.
func (c *call) requestSense() error {
	s := badLUN
	if c.u != nil {
		var pending bool
		if s, pending = c.u.attend(); !pending && c.u.stopped.Load() {
			s = stopped
		}
	}
	if c.CDB[1]&1 != 0 { // DESC
		return c.answer([]byte{0x72, s.key, s.asc, s.ascq, 7: 0}, uint32(c.CDB[4]))
	}
	p := s.fixed()
	return c.answer(p[:], uint32(c.CDB[4]))
}

// reportLUNs serves REPORT LUNS (SPC-4 §6.33).
func (c *call) reportLUNs() error {
	allocation := be.Uint32(c.CDB[6:])
	if allocation < 16 {
		return badField(6)
	}
	var list []byte
	switch c.CDB[2] {
	case 0, 2:
		for i := range c.t.units {
			list = append(list, 0, byte(i), 0, 0, 0, 0, 0, 0)
		}
	case 1: // well known logical units: none
	default:
		return badField(2)
	}
	return c.answer(append(be.AppendUint32(nil, uint32(len(list))), append(make([]byte, 4), list...)...), allocation)
}

// reportOpcodes serves REPORT SUPPORTED OPERATION CODES (SPC-4 §6.34). If the initiator requests
// timeouts (RCTD), it reports that there are none.
func (c *call) reportOpcodes() error {
	options, opcode, action := c.CDB[2]&7, c.CDB[3], int(be.Uint16(c.CDB[4:]))
	allocation := be.Uint32(c.CDB[6:])
	var timeouts []byte
	var flags byte
	if c.CDB[2]&0x80 != 0 {
		timeouts = []byte{0, 10, 11: 0}
		flags = 1 // CTDP, at a different position in the two formats
	}
	if options == 0 {
		var list []byte
		for _, row := range slices.Concat(byOpcode[:]...) {
			if !c.u.has(row) {
				continue
			}
			servactv := flags << 1
			if row.action >= 0 {
				servactv |= 1
			}
			list = append(list, row.opcode, 0, 0, byte(max(row.action, 0)), 0, servactv, 0, byte(len(row.usage)))
			list = append(list, timeouts...)
		}
		return c.answer(append(be.AppendUint32(nil, uint32(len(list))), list...), allocation)
	}
	var cmd *command
	has := false // the opcode has service actions
	for _, row := range byOpcode[opcode] {
		if !c.u.has(row) {
			continue
		}
		has = row.action >= 0
		if !has || row.action == action {
			cmd = row
		}
	}
	switch plain := cmd != nil && !has; {
	case options > 3, options == 1 && has, options == 2 && plain:
		return badField(2)
	case cmd == nil, options == 3 && plain && action != 0:
		return c.answer([]byte{0, 1, 0, 0}, allocation) // not supported
	}
	data := []byte{0, flags<<7 | 3, 0, byte(len(cmd.usage))} // supported in conformance with the standard
	return c.answer(append(append(data, cmd.usage...), timeouts...), allocation)
}

// reportManagement serves REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-4 §6.35). They are
// the functions of the transport's control queue.
func (c *call) reportManagement() error {
	allocation := be.Uint32(c.CDB[6:])
	if allocation < 4 {
		return badField(6)
	}
	p := []byte{0xdc, 0x03, 0, 0} // ATS, ATSS, CTSS, LURS, QTS; QTSS, ITNRS
	if c.CDB[2]&0x80 != 0 {       // REPD
		p = append([]byte{p[0], p[1], 0, 12}, make([]byte, 12)...)
	}
	return c.answer(p, allocation)
}

// startStop serves START STOP UNIT (SBC-3 §5.25).
func (c *call) startStop() error {
	switch {
	case c.CDB[4]&0xf0 != 0, c.CDB[4]&2 != 0: // POWER CONDITION; LOEJ: nothing to eject
		return badField(4)
	case c.CDB[4]&1 != 0:
		c.u.stopped.Store(false)
		return nil
	}
	c.u.stopped.Store(true)
	return c.flush()
}
