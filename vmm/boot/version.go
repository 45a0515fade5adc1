package boot

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	offKernelVersion = 0x20e // hdr.kernel_version, from 0x200 on
	maxVersion       = 512   // bytes; longer strings are truncated
	bannerStart      = "Linux version "
)

// kernelVersion returns the string that the setup header points to.
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

// banner finds linux_banner (init/version.c) in a vmlinux and returns the text after "Linux version
// ".
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
