package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"minivmm/devices/guestmem"
	"minivmm/internal/unpack"
)

// bzImage holds the fields of a bzImage's setup header, checked against the file size (boot.rst,
// "Details of header fields").
type bzImage struct {
	header      []byte // struct setup_header, from its first byte at 0x1f1
	kernelOff   int64  // file offset of the protected-mode code
	kernelSize  int64
	payloadOff  int64 // file offset of the packed vmlinux
	payloadSize int64
	prefAddress uint64
	initSize    uint64
	cmdlineSize uint64 // longest command line, without its NUL
	initrdMax   uint64 // last address an initrd may occupy
}

const (
	minVersion       = 0x20c // the first version with xloadflags, and so with a 64-bit entry
	defaultInitrdMax = 0x7fffffff
	defaultCmdline   = 2047 // COMMAND_LINE_SIZE - 1, asm/setup.h
	entry64Offset    = 0x200
)

// isBzImage reports whether head starts an image with a setup header.
func isBzImage(head []byte) bool {
	return len(head) >= offHeader+4 && string(head[offHeader:offHeader+4]) == headerMagic
}

// parseBzImage parses the setup header in head, the start of an image of size bytes. head holds at
// least offHdrMax bytes unless the image is shorter.
func parseBzImage(head []byte, size int64) (bzImage, error) {
	var z bzImage
	if len(head) < offHdrMin {
		return z, fmt.Errorf("setup header: %w", errTruncated)
	}
	le := binary.LittleEndian
	if got := le.Uint16(head[offBootFlag:]); got != bootFlag {
		return z, fmt.Errorf("setup header: boot_flag %#x, want %#x", got, bootFlag)
	}
	if v := le.Uint16(head[offVersion:]); v < minVersion {
		return z, fmt.Errorf("boot protocol %d.%d is too old: at least 2.12 is required (Linux 3.8)", v>>8, v&0xff)
	}
	if head[offLoadflags]&loadedHigh == 0 || le.Uint16(head[offXloadflags:])&xlfKernel64 == 0 {
		return z, errors.New("a 32-bit kernel: it has no 64-bit entry (XLF_KERNEL_64)")
	}
	// "the end of the header can be calculated as 0x0202 + byte value at offset 0x0201"
	end := offHeader + int(head[offJump+1])
	if end < offHdrMin || end > min(len(head), offHdrMax) {
		return z, fmt.Errorf("setup header ends at %#x, want %#x to %#x", end, offHdrMin, offHdrMax)
	}
	z.header = append([]byte(nil), head[offHdr:end]...)

	sects := int64(head[offSetupSects])
	if sects == 0 {
		sects = 4 // "if the setup_sects field contains 0, the real value is 4"
	}
	z.kernelOff = (sects + 1) * 512
	// "the size of the protected-mode code in units of 16-byte paragraphs": the last may be short.
	announced := int64(le.Uint32(head[offSyssize:])) * 16
	z.kernelSize = min(announced, size-z.kernelOff)
	if z.kernelSize <= 0 || z.kernelSize <= announced-16 {
		return z, fmt.Errorf("truncated: the header declares %d bytes of setup and %d of kernel, but the file has %d", z.kernelOff, announced, size)
	}
	if z.kernelSize <= entry64Offset {
		return z, fmt.Errorf("the kernel of %d bytes ends before its entry at %#x", z.kernelSize, entry64Offset)
	}
	off, n := int64(le.Uint32(head[offPayloadOffset:])), int64(le.Uint32(head[offPayloadLength:]))
	if off+n > z.kernelSize {
		return z, fmt.Errorf("payload of %d bytes at %d is outside the kernel's %d", n, off, z.kernelSize)
	}
	z.payloadOff, z.payloadSize = z.kernelOff+off, n

	z.prefAddress = le.Uint64(head[offPrefAddress:])
	z.initSize = uint64(le.Uint32(head[offInitSize:]))
	align := uint64(le.Uint32(head[offKernelAlignment:]))
	if align&(align-1) != 0 || align == 0 || z.prefAddress%align != 0 {
		return z, fmt.Errorf("pref_address %#x does not match kernel_alignment %#x", z.prefAddress, align)
	}
	if z.initSize < uint64(z.kernelSize) || z.prefAddress > fourGiB-z.initSize {
		return z, fmt.Errorf("init_size %#x at pref_address %#x: smaller than the kernel's %#x bytes or above 4 GiB", z.initSize, z.prefAddress, z.kernelSize)
	}
	z.cmdlineSize = uint64(le.Uint32(head[offCmdlineSize:]))
	z.initrdMax = uint64(le.Uint32(head[offInitrdAddrMax:]))
	return z, nil
}

// packed returns the program that enters the bzImage's decompressor, which then unpacks the kernel
// in the guest. At pref_address it runs without first moving itself, and it needs init_size bytes
// from there.
func (z bzImage) packed() program {
	return program{
		segments: []segment{{gpa: guestmem.GPA(z.prefAddress), off: z.kernelOff, fileSize: uint64(z.kernelSize), memSize: z.initSize}},
		linux64:  z.prefAddress + entry64Offset,
	}
}

// payload returns the packed vmlinux and its unpacked size. The kernel build appends that size to
// every format except gzip, whose own trailer ends with it (scripts/Makefile.lib, size_append).
func (z bzImage) payload(r io.ReaderAt) (packedData, error) {
	head := make([]byte, min(z.payloadSize, 16))
	if _, err := r.ReadAt(head, z.payloadOff); err != nil {
		return packedData{}, fmt.Errorf("payload: %w", orTruncated(err))
	}
	d := packedData{codec: unpack.Format(head), off: z.payloadOff, size: z.payloadSize}
	if z.payloadSize < 16 || d.codec == "" {
		return d, fmt.Errorf("payload of %d bytes starts with % x: %w", z.payloadSize, head, errUnknownCodec)
	}
	tail := make([]byte, 4)
	if _, err := r.ReadAt(tail, z.payloadOff+z.payloadSize-4); err != nil {
		return d, fmt.Errorf("payload: %w", orTruncated(err))
	}
	d.unpacked = int64(binary.LittleEndian.Uint32(tail))
	if d.codec != "gzip" {
		d.size -= 4
	}
	return d, nil
}
