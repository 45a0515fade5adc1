package diskimage

import (
	"os"
	"path/filepath"
	"strings"
)

// formats are the disk image formats other than raw, each with the name that qemu-img uses for it,
// and its magic bytes.
var formats = []struct {
	name   string
	offset int
	magic  string
}{
	{"qcow2", 0, "QFI\xfb"},
	{"vmdk", 0, "KDMV"},
	{"vmdk", 0, "# Disk DescriptorFile"},
	{"vhdx", 0, "vhdxfile"},
	{"vpc", 0, "conectix"}, // VHD; a fixed-size VHD is raw with a footer
	{"vdi", 64, "\x7f\x10\xda\xbe"},
	{"qed", 0, "QED\x00"},
}

// checkRaw returns an error if the file's format is not raw. The error shows the command that
// converts the file. A guest can write its disk's first bytes. Therefore these bytes may only cause
// the disk to be rejected; they must never determine how the disk is read.
func checkRaw(file *os.File) error {
	head := make([]byte, 128)
	n, _ := file.ReadAt(head, 0) // a read error is ignored here: the guest will see it
	for _, f := range formats {
		if end := f.offset + len(f.magic); end <= n && string(head[f.offset:end]) == f.magic {
			path := file.Name()
			return errorf("%s: a %s image, but a disk must be raw: convert it with qemu-img convert -O raw '%s' '%s.raw'",
				path, f.name, path, strings.TrimSuffix(path, filepath.Ext(path)))
		}
	}
	return nil
}

// CheckRaw returns the error that Open would return if the file at path is an image in a format
// other than raw. It returns nil for a file that cannot be opened.
func CheckRaw(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	return checkRaw(f)
}
