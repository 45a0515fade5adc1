package boot

import (
	"errors"
	"os"

	"minivmm/internal/unpack"
)

// Image says what a kernel image is, without a machine to load it into.
type Image struct {
	Format  string // "bzImage" or "vmlinux"
	Packing string // compression that was undone: "zstd", ...; "" for none

	// Version is how the kernel names itself: its release as uname -r says it, and in a bzImage who built it and when. ""
	// if it does not.
	Version string

	// NotUnpacked is why nothing was unpacked from a bzImage that is sound otherwise: its compression is none of ours.
	NotUnpacked error
}

// IsPacked reports whether f looks like a bzImage or a compressed vmlinux, by its first bytes.
func IsPacked(f *os.File) (bool, error) {
	head, err := readHead(f, offHdrMax)
	return err == nil && (isBzImage(head) || unpack.Format(head) != ""), err
}

// Unpack checks the kernel image in f as [Open] does, a bzImage's checksum too, and writes the vmlinux that is packed in
// it to out, an empty file. out stays empty if f is a vmlinux itself or Image.NotUnpacked is set. Both files stay open. An
// error says what is wrong with the image, or what else f is, but not its name; one of out's is an *os.PathError.
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
		err = errors.New("an x86-64 program, but no kernel: it has neither the text \"Linux version\" nor a PVH entry")
	}
	if err != nil {
		return Image{}, err
	}
	return i, nil
}
