package kernel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"

	"minivmm/guestimages/cache"
)

// Vmlinux returns the path of the kernel's ELF file, unpacked from its bzImage. Formats: zstd and xz, which Debian uses for
// the full kernels.
func Vmlinux(ctx context.Context, c *cache.Cache, k Kernel) (string, error) {
	// A package's version may change what a release is.
	info, err := os.Stat(k.Image)
	if err != nil {
		return "", fmt.Errorf("kernel: %w", err)
	}
	name := fmt.Sprintf("vmlinux/%s-%d", k.Release, info.ModTime().Unix())
	return c.Make(ctx, name, func(_ context.Context, tmp string) error {
		image, err := os.ReadFile(k.Image)
		if err != nil {
			return fmt.Errorf("kernel: %w", err)
		}
		elf, err := unpack(image)
		if err != nil {
			return fmt.Errorf("kernel: %s: %w", k.Image, err)
		}
		if err := os.WriteFile(tmp, elf, 0o644); err != nil {
			return fmt.Errorf("kernel: %w", err)
		}
		return nil
	})
}

// Offsets of the setup header's fields in a bzImage, kernel's Documentation/arch/x86/boot.rst.
const (
	offSetupSects     = 0x1f1
	offMagic          = 0x202 // "HdrS"
	offVersion        = 0x206
	offPayload        = 0x248 // from the start of the protected-mode code; since version 2.08
	offPayloadLength  = 0x24c
	headerEnd         = 0x250
	versionPayload    = 0x0208
	sectorSize        = 512
	unpackedSizeBytes = 4 // behind the compressed stream: its unpacked size, little endian
)

// unpack returns the ELF file in a bzImage.
func unpack(image []byte) ([]byte, error) {
	le := binary.LittleEndian
	if len(image) < headerEnd || string(image[offMagic:offMagic+4]) != "HdrS" || le.Uint16(image[offVersion:]) < versionPayload {
		return nil, errors.New("not a bzImage")
	}
	start := (uint64(image[offSetupSects])+1)*sectorSize + uint64(le.Uint32(image[offPayload:]))
	length := uint64(le.Uint32(image[offPayloadLength:]))
	if length < unpackedSizeBytes || start+length > uint64(len(image)) {
		return nil, errors.New("the bzImage's payload lies outside of it")
	}
	payload := image[start : start+length-unpackedSizeBytes]
	size := le.Uint32(image[start+length-unpackedSizeBytes:])
	r, err := decompressor(payload)
	if err != nil {
		return nil, err
	}
	elf := make([]byte, size)
	if _, err := io.ReadFull(r, elf); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	if !bytes.HasPrefix(elf, []byte("\x7fELF")) {
		return nil, errors.New("the payload is not an ELF file")
	}
	return elf, nil
}

// decompressor chooses by the first bytes.
func decompressor(payload []byte) (io.Reader, error) {
	switch {
	case bytes.HasPrefix(payload, []byte("\x28\xb5\x2f\xfd")):
		r, err := zstd.NewReader(bytes.NewReader(payload))
		if err != nil {
			return nil, err
		}
		return r.IOReadCloser(), nil
	case bytes.HasPrefix(payload, []byte("\xfd7zXZ\x00")):
		return xz.NewReader(bytes.NewReader(payload), 0)
	}
	return nil, fmt.Errorf("payload of unknown format % x", payload[:min(6, len(payload))])
}
