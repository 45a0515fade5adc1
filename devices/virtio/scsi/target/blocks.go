package target

import (
	"bytes"
	"errors"
	"math"
	"math/bits"
	"slices"

	"golang.org/x/sys/unix"
)

// readCapacity10 serves READ CAPACITY (10) (SBC-3 §5.15).
func (c *call) readCapacity10() error {
	if c.CDB[8]&1 == 0 && be.Uint32(c.CDB[2:]) != 0 { // the LBA must be 0 without PMI
		return badField(2)
	}
	p := be.AppendUint32(nil, uint32(min(c.u.blocks.Load()-1, math.MaxUint32)))
	return c.answer(be.AppendUint32(p, uint32(c.u.BlockSize)), 8)
}

// readCapacity16 serves READ CAPACITY (16) (SBC-3 §5.16).
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

// place returns the block range in the CDB, and the position of the field that has the number of
// blocks. The length of the CDB follows from the opcode's group code.
func (c *call) place() (lba, blocks uint64, field uint16) {
	switch p := c.CDB[:]; p[0] >> 5 {
	case 0: // 6 bytes
		lba, blocks = uint64(be.Uint32(p)&0x1fffff), uint64(p[4])
		if blocks == 0 {
			blocks = 256
		}
		return lba, blocks, 4
	case 1, 2: // 10 bytes
		return uint64(be.Uint32(p[2:])), uint64(be.Uint16(p[7:])), 7
	case 5: // 12 bytes
		return uint64(be.Uint32(p[2:])), uint64(be.Uint32(p[6:])), 6
	default: // 16 bytes
		return be.Uint64(p[2:]), uint64(be.Uint32(p[10:])), 10
	}
}

// span returns the block range of READ, WRITE and VERIFY: the first block, and the offset and
// length in the store in bytes. It refuses a range longer than maxTransferBytes and a CDB that asks
// for protection information (RDPROTECT, WRPROTECT, VRPROTECT). A 6-byte CDB cannot ask for it.
func (c *call) span() (lba uint64, off int64, n int, err error) {
	lba, blocks, field := c.place()
	if field != 4 && c.CDB[1]&0xe0 != 0 {
		return 0, 0, 0, badField(1)
	}
	if err := c.u.inRange(lba, blocks); err != nil {
		return 0, 0, 0, err
	}
	if blocks > maxTransferBytes/uint64(c.u.BlockSize) {
		return 0, 0, 0, badField(field)
	}
	return lba, int64(lba) * int64(c.u.BlockSize), int(blocks) * c.u.BlockSize, nil
}

// fua returns the FUA bit of READ and WRITE. The 6-byte commands do not have it.
func (c *call) fua() bool { return c.CDB[0]>>5 != 0 && c.CDB[1]&8 != 0 }

// read serves READ (SBC-3 §5.11). With FUA, the data that it returns is durable: the flush comes
// after the read, so that it also covers a write during the read.
func (c *call) read() error {
	lba, off, n, err := c.span()
	if err != nil {
		return err
	}
	if c.In.Len() < n {
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

// write serves WRITE (SBC-3 §5.33).
func (c *call) write() error {
	lba, off, n, err := c.span()
	if err != nil {
		return err
	}
	if c.Out.Len() < n {
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

// chunkBytes is how many bytes are compared or filled at a time.
const chunkBytes = 64 << 10

// verify serves VERIFY (SBC-3 §5.29). Without BYTCHK it reads the blocks to check that they are
// readable; with BYTCHK 01b it compares them with the data from the initiator.
func (c *call) verify() error {
	check := c.CDB[1] >> 1 & 3
	if check > 1 {
		return badField(1)
	}
	lba, off, n, err := c.span()
	if err != nil {
		return err
	}
	if check == 1 && c.Out.Len() < n {
		return errOverrun
	}
	out := slices.Clone(c.Out)
	chunk := make([]byte, min(n, chunkBytes))
	for at := 0; at < n; at += len(chunk) {
		if c.Cancelled.Load() {
			return cancelled
		}
		chunk = chunk[:min(n-at, chunkBytes)]
		if moved, err := moveAll(c.u.Store.ReadV, [][]byte{chunk}, off+int64(at), 0); err != nil {
			return hostError(err, c.u.stoppedAt(lba, at+moved), false)
		}
		if check == 0 {
			continue
		}
		want := make([]byte, len(chunk))
		out.Read(want)
		for i := range chunk {
			if chunk[i] != want[i] {
				// MISCOMPARE DURING VERIFY OPERATION
				return sense{key: keyMiscompare, asc: 0x1d, hasInfo: true, info: uint64(at + i)}
			}
		}
	}
	if check == 1 {
		c.used = n
	}
	return nil
}

// sync serves SYNCHRONIZE CACHE (SBC-3 §5.26). It always flushes the whole store. It ignores IMMED
// and returns after the flush, which the standard allows.
func (c *call) sync() error {
	lba, blocks, _ := c.place()
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
		return sense{key: keyMediumError, asc: 0x0c} // WRITE ERROR; the location is unknown
	}
	return nil
}

// unmap serves UNMAP (SBC-3 §5.28). It checks all ranges before it frees the first.
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

// through flushes a write-through unit after operations that have no RWF_DSYNC.
func (c *call) through() error {
	if !c.u.through.Load() {
		return nil
	}
	return c.flush()
}

// free deallocates blocks. Their contents are undefined afterwards, so a host that cannot
// deallocate is not an error.
func (c *call) free(lba, blocks uint64) error {
	err := c.inStore(lba, blocks, c.u.Store.Discard)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return hostError(err, lba, true)
}

// clear makes blocks read as zero. It deallocates them if free is set and keeps them allocated
// otherwise. If the host can do neither, clear writes zeros.
func (c *call) clear(lba, blocks uint64, free bool) error {
	do := c.u.Store.Zero
	if free {
		do = c.u.Store.Punch
	}
	err := c.inStore(lba, blocks, do)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return c.fill(lba, blocks, make([]byte, c.u.BlockSize))
	}
	return hostError(err, lba, true)
}

// inStore calls do with the offset and length of a block range in bytes, unless the range is empty.
func (c *call) inStore(lba, blocks uint64, do func(off, n int64) error) error {
	if blocks == 0 {
		return nil
	}
	if c.Cancelled.Load() {
		return cancelled
	}
	return do(int64(lba)*int64(c.u.BlockSize), int64(blocks)*int64(c.u.BlockSize))
}

// fill writes block to each of the blocks from lba on.
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

// writeSame serves WRITE SAME (SBC-3 §5.43): it writes the same content to each block of a range.
// The content comes from the initiator, or is zeros with NDOB. With UNMAP, zeros may become holes.
func (c *call) writeSame() error {
	lba, blocks, field := c.place()
	ndob := c.CDB[0] == 0x93 && c.CDB[1]&1 != 0
	unmap := c.CDB[1]&8 != 0
	if c.CDB[1]&0xf6 != 0 || c.CDB[0] == 0x41 && c.CDB[1]&1 != 0 { // WRPROTECT, ANCHOR, PBDATA, LBDATA; no NDOB
		return badField(1)
	}
	if unmap && c.u.Unmap != UnmapZeroes { // no LBPWS, LBPWS10
		return badField(1)
	}
	if err := c.u.inRange(lba, blocks); err != nil {
		return err
	}
	if blocks == 0 || blocks > maxSameBlocks {
		return badField(field)
	}
	block := make([]byte, c.u.BlockSize)
	var err error
	if !ndob {
		if block, err = c.parameters(c.u.BlockSize); err != nil {
			return err
		}
	}
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
