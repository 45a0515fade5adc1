package target

import (
	"bytes"
	"errors"
	"math"
	"math/bits"

	"golang.org/x/sys/unix"
)

// readCapacity10 is READ CAPACITY (10) (SBC-3 §5.15).
func (c *call) readCapacity10() error {
	if c.CDB[8]&1 == 0 && be.Uint32(c.CDB[2:]) != 0 { // an LBA without PMI
		return badField(2)
	}
	p := be.AppendUint32(nil, uint32(min(c.u.blocks.Load()-1, math.MaxUint32)))
	return c.answer(be.AppendUint32(p, uint32(c.u.BlockSize)), 8)
}

// readCapacity16 is READ CAPACITY (16) (SBC-3 §5.16).
func (c *call) readCapacity16() error {
	p := be.AppendUint64(nil, c.u.blocks.Load()-1)
	p = be.AppendUint32(p, uint32(c.u.BlockSize))
	p = append(p, make([]byte, 20)...)
	if c.u.Physical > c.u.BlockSize {
		p[13] = byte(bits.Len(uint(c.u.Physical/c.u.BlockSize)) - 1) // LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT
	}
	if c.u.frees() {
		p[14] = 0x80 // LBPME
		if c.u.Unmap == UnmapZeroes {
			p[14] |= 0x40 // LBPRZ
		}
	}
	return c.answer(p, be.Uint32(c.CDB[10:]))
}

func (c *call) read6() error  { return c.read(c.place6()) }
func (c *call) read10() error { return c.checked(c.read, 10) }
func (c *call) read12() error { return c.checked(c.read, 12) }
func (c *call) read16() error { return c.checked(c.read, 16) }

func (c *call) write6() error  { return c.write(c.place6()) }
func (c *call) write10() error { return c.checked(c.write, 10) }
func (c *call) write12() error { return c.checked(c.write, 12) }
func (c *call) write16() error { return c.checked(c.write, 16) }

func (c *call) verify10() error    { return c.checked(c.verify, 10) }
func (c *call) verify16() error    { return c.checked(c.verify, 16) }
func (c *call) sync10() error      { return c.sync(c.place(10)) }
func (c *call) sync16() error      { return c.sync(c.place(16)) }
func (c *call) writeSame10() error { return c.checked(c.writeSame, 10) }
func (c *call) writeSame16() error { return c.checked(c.writeSame, 16) }

// place is the range of blocks in a CDB of that many bytes.
func (c *call) place(cdbBytes int) (lba, blocks uint64) {
	switch p := c.CDB[:]; cdbBytes {
	case 10:
		return uint64(be.Uint32(p[2:])), uint64(be.Uint16(p[7:]))
	case 12:
		return uint64(be.Uint32(p[2:])), uint64(be.Uint32(p[6:]))
	default:
		return be.Uint64(p[2:]), uint64(be.Uint32(p[10:]))
	}
}

// place6 is that of READ (6) and WRITE (6), where 0 blocks are 256.
func (c *call) place6() (lba, blocks uint64) {
	lba = uint64(be.Uint32(c.CDB[0:]) & 0x1fffff)
	if blocks = uint64(c.CDB[4]); blocks == 0 {
		blocks = 256
	}
	return lba, blocks
}

// checked is do with the CDB's range, unless the CDB asks for protection
// information (RDPROTECT, WRPROTECT, VRPROTECT).
func (c *call) checked(do func(lba, blocks uint64) error, cdbBytes int) error {
	if c.CDB[1]&0xe0 != 0 {
		return badField(1)
	}
	return do(c.place(cdbBytes))
}

// span is a range of blocks in bytes of the store. field is where the CDB has
// its length.
func (c *call) span(lba, blocks uint64) (off int64, n int, err error) {
	if err := c.u.inRange(lba, blocks); err != nil {
		return 0, 0, err
	}
	if blocks > maxTransferBytes/uint64(c.u.BlockSize) {
		return 0, 0, badField(map[int]uint16{0: 4, 1: 7, 2: 7, 4: 10, 5: 6}[int(c.CDB[0]>>5)])
	}
	return int64(lba) * int64(c.u.BlockSize), int(blocks) * c.u.BlockSize, nil
}

// fua is FUA of READ and WRITE, which those of 6 bytes do not have.
func (c *call) fua() bool { return c.CDB[0]>>5 != 0 && c.CDB[1]&8 != 0 }

// read is READ (SBC-3 §5.11). With FUA what was read is durable: the flush comes
// after it, for the sake of a write that comes in between.
func (c *call) read(lba, blocks uint64) error {
	off, n, err := c.span(lba, blocks)
	if err != nil {
		return err
	}
	if size(c.In) < n {
		return errOverrun
	}
	if c.fua() && !c.wait {
		return errAgain
	}
	if moved, err := c.u.read.run(c.u.Store.ReadV, first(c.In, n), off, 0, c.wait); err != nil {
		return hostError(err, c.u.stoppedAt(lba, moved), false)
	}
	if c.fua() {
		if err := c.flush(); err != nil {
			return err
		}
	}
	c.filled = n
	return nil
}

// write is WRITE (SBC-3 §5.32).
func (c *call) write(lba, blocks uint64) error {
	off, n, err := c.span(lba, blocks)
	if err != nil {
		return err
	}
	if size(c.Out) < n {
		return errOverrun
	}
	flags := 0
	if c.fua() || c.u.through.Load() {
		flags = unix.RWF_DSYNC
	}
	if moved, err := c.u.write.run(c.u.Store.WriteV, first(c.Out, n), off, flags, c.wait); err != nil {
		return hostError(err, c.u.stoppedAt(lba, moved), true)
	}
	c.used = n
	return nil
}

// chunkBytes is how much is compared or filled at a time.
const chunkBytes = 64 << 10

// verify is VERIFY (SBC-3 §5.28): without BYTCHK blocks are read, to know that
// they can be; with 01b they are compared with what came.
func (c *call) verify(lba, blocks uint64) error {
	check := c.CDB[1] >> 1 & 3
	if check > 1 {
		return badField(1)
	}
	off, n, err := c.span(lba, blocks)
	if err != nil {
		return err
	}
	var out [][]byte
	if check == 1 {
		if size(c.Out) < n {
			return errOverrun
		}
		out = first(c.Out, n)
	}
	chunk := make([]byte, min(n, chunkBytes))
	for at := 0; at < n; at += len(chunk) {
		if c.Cancelled.Load() {
			return cancelled
		}
		chunk = chunk[:min(n-at, chunkBytes)]
		if moved, err := moveAll(c.u.Store.ReadV, [][]byte{chunk}, off+int64(at), 0); err != nil {
			return hostError(err, c.u.stoppedAt(lba, at+moved), false)
		}
		for p := chunk; check == 1 && len(p) > 0; {
			b := out[0][:min(len(out[0]), len(p))]
			for i := range b {
				if b[i] != p[i] {
					differs := at + len(chunk) - len(p) + i
					return sense{key: keyMiscompare, asc: 0x1d, hasInfo: true, info: uint64(differs)} // MISCOMPARE DURING VERIFY OPERATION
				}
			}
			p, out = p[len(b):], after(out, len(b))
		}
	}
	if check == 1 {
		c.used = n
	}
	return nil
}

// sync is SYNCHRONIZE CACHE (SBC-3 §5.26). It flushes all; IMMED does not make
// it return early, which a target may do.
func (c *call) sync(lba, blocks uint64) error {
	if err := c.u.inRange(lba, blocks); err != nil && (lba != 0 || blocks != 0) {
		return err
	}
	return c.flush()
}

func (c *call) flush() error {
	if c.u.ReadOnly {
		return nil
	}
	if err := c.u.Store.Sync(); err != nil {
		if err := hostError(err, 0, true); err == noSpace {
			return err
		}
		return sense{key: keyMediumError, asc: 0x0c} // WRITE ERROR: no telling where
	}
	return nil
}

// unmap is UNMAP (SBC-3 §5.28). All ranges are checked before the first is
// freed.
func (c *call) unmap() error {
	if c.CDB[1]&1 != 0 { // ANCHOR
		return badField(1)
	}
	length := int(be.Uint16(c.CDB[7:]))
	if length == 0 {
		return nil
	}
	if length < 8 {
		return badListLength
	}
	p, err := c.parameters(length)
	if err != nil {
		return err
	}
	ranges := p[8:]
	ranges = ranges[:min(len(ranges), int(be.Uint16(p[2:])))/16*16]
	if len(ranges)/16 > maxUnmapRanges {
		return badParameter(2)
	}
	total := uint64(0)
	for at := 0; at < len(ranges); at += 16 {
		lba, blocks := be.Uint64(ranges[at:]), uint64(be.Uint32(ranges[at+8:]))
		if err := c.u.inRange(lba, blocks); err != nil && (blocks > 0 || lba > c.u.blocks.Load()) {
			return err
		}
		if total += blocks; total > maxUnmapBlocks {
			return badParameter(uint16(8 + at + 8))
		}
	}
	free := (*call).free
	if c.u.Unmap != UnmapAnything {
		free = func(c *call, lba, blocks uint64) error { return c.clear(lba, blocks, true) }
	}
	for at := 0; at < len(ranges); at += 16 {
		if err := free(c, be.Uint64(ranges[at:]), uint64(be.Uint32(ranges[at+8:]))); err != nil {
			return err
		}
	}
	return c.through()
}

// through makes durable what no RWF_DSYNC did.
func (c *call) through() error {
	if !c.u.through.Load() {
		return nil
	}
	return c.flush()
}

// free gives the room of blocks back, whatever they read as afterwards: a host
// that does not is right as well.
func (c *call) free(lba, blocks uint64) error {
	if blocks == 0 {
		return nil
	}
	if c.Cancelled.Load() {
		return cancelled
	}
	err := c.u.Store.Discard(int64(lba)*int64(c.u.BlockSize), int64(blocks)*int64(c.u.BlockSize))
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return hostError(err, lba, true)
	}
	return nil
}

// clear makes blocks read as zero, and gives their room back or keeps it. A host
// that can do neither gets zeros written.
func (c *call) clear(lba, blocks uint64, free bool) error {
	if blocks == 0 {
		return nil
	}
	if c.Cancelled.Load() {
		return cancelled
	}
	off, n := int64(lba)*int64(c.u.BlockSize), int64(blocks)*int64(c.u.BlockSize)
	do := c.u.Store.Zero
	if free {
		do = c.u.Store.Punch
	}
	err := do(off, n)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return c.fill(lba, blocks, make([]byte, c.u.BlockSize))
	}
	if err != nil {
		return hostError(err, lba, true)
	}
	return nil
}

// fill writes one block again and again.
func (c *call) fill(lba, blocks uint64, block []byte) error {
	chunk := bytes.Repeat(block, int(min(blocks, uint64(chunkBytes/len(block)))))
	for blocks > 0 {
		if c.Cancelled.Load() {
			return cancelled
		}
		p := chunk[:min(uint64(len(chunk)), blocks*uint64(len(block)))]
		if moved, err := moveAll(c.u.Store.WriteV, [][]byte{p}, int64(lba)*int64(len(block)), 0); err != nil {
			return hostError(err, c.u.stoppedAt(lba, moved), true)
		}
		done := uint64(len(p) / len(block))
		lba, blocks = lba+done, blocks-done
	}
	return nil
}

// writeSame is WRITE SAME (SBC-3 §5.43): one block that came, or zeros (NDOB),
// in many places. With UNMAP zeros may become holes.
func (c *call) writeSame(lba, blocks uint64) error {
	ndob := c.CDB[0] == 0x93 && c.CDB[1]&1 != 0
	unmap := c.CDB[1]&8 != 0
	if c.CDB[1]&0x10 != 0 || c.CDB[0] == 0x41 && c.CDB[1]&7 != 0 || c.CDB[1]&6 != 0 { // ANCHOR; PBDATA, LBDATA
		return badField(1)
	}
	if unmap && c.u.Unmap != UnmapZeroes { // no LBPWS, LBPWS10
		return badField(1)
	}
	if err := c.u.inRange(lba, blocks); err != nil {
		return err
	}
	if blocks == 0 || blocks > maxSameBlocks {
		return badField(map[byte]uint16{0x41: 7, 0x93: 10}[c.CDB[0]])
	}
	block := make([]byte, c.u.BlockSize)
	if !ndob {
		var err error
		if block, err = c.parameters(c.u.BlockSize); err != nil {
			return err
		}
	}
	var err error
	if bytes.Count(block, []byte{0}) == len(block) {
		err = c.clear(lba, blocks, unmap)
	} else {
		err = c.fill(lba, blocks, block)
	}
	if err != nil {
		return err
	}
	return c.through()
}
