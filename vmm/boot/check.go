package boot

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"

	"minivmm/internal/unpack"
)

// IsPacked reports whether the first bytes of f look like those of a bzImage or a compressed
// vmlinux.
func IsPacked(f *os.File) (bool, error) {
	head, err := readHead(f, offHdrMax)
	return err == nil && (isBzImage(head) || unpack.Format(head) != ""), err
}

// Unpack checks the kernel image in f as [Open] does, verifies the checksum of a bzImage, and
// writes the vmlinux that the image contains to out, which must be an empty file. out stays empty
// if f is itself a vmlinux or if Info.NotUnpacked is set. Unpack closes neither file. An error
// describes what is wrong with the image, or what kind of file f is. It does not contain the name
// of f. An error writing to out is an *os.PathError.
func Unpack(f, out *os.File) (Info, error) {
	k, err := open(f, Options{into: out})
	if err != nil {
		return Info{}, err
	}
	i := k.info
	if k.header != nil {
		i.Version, err = checkBzImage(f)
	} else {
		i.Version, err = banner(k.file)
	}
	if err == nil && k.header == nil && i.Version == "" && k.program.pvh == 0 {
		err = errors.New("an x86-64 program, but not a kernel: it has neither the text \"Linux version\" nor a PVH entry")
	}
	return i, err
}

// Offsets of the PE header fields that signing changes. Microsoft's "PE Format", Optional Header
// (PE32+).
const (
	offPEHeader    = 0x3c // file offset of the signature "PE\0\0"
	offPECheckSum  = 24 + 64
	offPECertTable = 24 + 112 + 4*8 // data directory 4: address and size
	sizePEHeader   = offPECertTable + 8
)

// errChecksum means that the bzImage is no longer as it was built.
var errChecksum = errors.New("the checksum is wrong: the image is damaged or was modified after it was built")

// checkBzImage verifies the checksum of the image in f, whose setup header must be valid, and
// returns the kernel version. Up to Linux 6.14 the build chooses the checksum so that the CRC-32 of
// everything the setup header covers is 0 (boot.rst, "The Image Checksum"). Signing for secure boot
// later changes PE header fields. checkBzImage treats these fields as zero, which is their value in
// a newly built image.
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
	// Sum32 inverts its result; the kernel's CRC is not inverted.
	if ^sum.Sum32() != 0 {
		return "", fmt.Errorf("bzImage of Linux %d.%d: %w", major, minor, errChecksum)
	}
	return version, nil
}

const (
	offKernelVersion = 0x20e // hdr.kernel_version, an offset from file offset 0x200
	maxVersion       = 512   // bytes; longer strings are truncated
	bannerStart      = "Linux version "
)

// kernelVersion returns the version string to which the setup header points.
func kernelVersion(f io.ReaderAt, head []byte) (string, error) {
	off := binary.LittleEndian.Uint16(head[offKernelVersion:])
	if off == 0 {
		return "", nil
	}
	b := make([]byte, maxVersion)
	n, err := f.ReadAt(b, int64(off)+0x200)
	if err != nil && err != io.EOF {
		return "", err
	}
	return printable(b[:n]), nil
}

// printable returns the text in b up to the first non-printable byte.
func printable(b []byte) string {
	end := bytes.IndexFunc(b, func(c rune) bool { return c < ' ' || c > '~' })
	if end >= 0 {
		b = b[:end]
	}
	return strings.TrimSpace(string(b))
}

// banner finds linux_banner (init/version.c) in a vmlinux and returns the text after bannerStart.
func banner(f *os.File) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	const window = 256 << 10
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, min(info.Size(), maxUnpacked)), window)
	for {
		b, err := r.Peek(window)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the kernel version: %w", err)
		}
		last := err != nil
		for rest := b; ; {
			at := bytes.Index(rest, []byte(bannerStart))
			if at < 0 || !last && at > len(rest)-maxVersion {
				break
			}
			rest = rest[at+len(bannerStart):]
			if text := printable(rest[:min(len(rest), maxVersion)]); text != "" && text[0] >= '0' && text[0] <= '9' {
				return text, nil
			}
		}
		if last {
			return "", nil
		}
		if _, err := r.Discard(window - maxVersion); err != nil {
			return "", err
		}
	}
}
