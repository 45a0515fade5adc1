package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Offsets of the PE header fields that signing changes. Microsoft's "PE Format", Optional Header
// (PE32+).
const (
	offPEHeader    = 0x3c // file offset of the signature "PE\0\0"
	offPECheckSum  = 24 + 64
	offPECertTable = 24 + 112 + 4*8 // data directory 4: address and size
	sizePEHeader   = offPECertTable + 8
)

// errChecksum means that a bzImage differs from what was built.
var errChecksum = errors.New("the checksum is wrong: the image is damaged or was modified after it was built")

// checkBzImage verifies the checksum of the image in f, whose setup header must be valid, and
// returns the kernel version. Up to Linux 6.14 the build chooses the checksum so that the CRC-32 of
// everything the setup header covers is 0 (boot.rst, "The Image Checksum"). Signing for secure boot
// changes PE header fields afterwards; they are read as zero, as built.
func checkBzImage(f io.ReaderAt) (version string, err error) {
	head, err := readHead(f, offHdrMax)
	if err != nil {
		return "", err
	}
	version, err = kernelVersion(f, head)
	if err != nil {
		return "", err
	}
	var major, minor int
	if n, _ := fmt.Sscanf(version, "%d.%d", &major, &minor); n != 2 || major > 6 || major == 6 && minor > 14 {
		return version, nil
	}
	le := binary.LittleEndian
	sects := int64(head[offSetupSects])
	if sects == 0 {
		sects = 4
	}
	setup := make([]byte, (sects+1)*512)
	if _, err := f.ReadAt(setup, 0); err != nil {
		return "", orTruncated(err)
	}
	if pe := int64(le.Uint32(setup[offPEHeader:])); pe < int64(len(setup)-sizePEHeader) && string(setup[pe:pe+4]) == "PE\x00\x00" {
		clear(setup[pe+offPECheckSum:][:4])
		clear(setup[pe+offPECertTable:][:8])
	}
	sum := crc32.NewIEEE()
	sum.Write(setup)
	size := int64(le.Uint32(head[offSyssize:])) * 16
	if _, err := io.Copy(sum, io.NewSectionReader(f, int64(len(setup)), size)); err != nil {
		return "", err
	}
	// Sum32 inverts its result, the kernel's CRC does not.
	if ^sum.Sum32() != 0 {
		return "", fmt.Errorf("bzImage of Linux %d.%d: %w", major, minor, errChecksum)
	}
	return version, nil
}
