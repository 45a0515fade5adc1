package boot

import (
	"errors"
	"os"

	"minivmm/internal/unpack"
)

// Image describes a kernel image that Unpack has read.
type Image struct {
	Format  string // "bzImage" or "vmlinux"
	Packing string // compression of the image that was unpacked: "zstd", ...; "" for none

	// Version is the version string of the kernel: its release as printed by uname -r and, in a
	// bzImage, the builder and build date. "" if the image has none.
	Version string

	// NotUnpacked is set if an otherwise valid bzImage was not unpacked, because its compression is
	// not supported.
	NotUnpacked error
}

// IsPacked reports whether f looks like a bzImage or a compressed vmlinux, judging by its first
// bytes.
func IsPacked(f *os.File) (bool, error) {
	head, err := readHead(f, offHdrMax)
	return err == nil && (isBzImage(head) || unpack.Format(head) != ""), err
}

// Unpack checks the kernel image in f as [Open] does, verifies the checksum of a bzImage, and
// writes the vmlinux packed in it to out, an empty file. out stays empty if f is itself a vmlinux
// or if Image.NotUnpacked is set. Unpack closes neither file. An error describes the problem with
// the image, or what kind of file f is, without its name; an error writing to out is an
// *os.PathError.
func Unpack(f, out *os.File) (Image, error) {
	k, err := open(f, Options{into: out})
	if err != nil {
		return Image{}, err
	}
	i := Image{Format: k.info.Format, Packing: k.info.Packing, NotUnpacked: k.info.NotUnpacked}
	if k.header != nil {
		i.Version, err = checkBzImage(f)
	} else {
		i.Version, err = banner(k.file)
	}
	if err == nil && k.header == nil && i.Version == "" && k.program.pvh == 0 {
		err = errors.New("an x86-64 program, but not a kernel: it has neither the text \"Linux version\" nor a PVH entry")
	}
	if err != nil {
		return Image{}, err
	}
	return i, nil
}
