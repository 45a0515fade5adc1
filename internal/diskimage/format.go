package diskimage

import (
	"os"
	"path/filepath"
	"strings"
)

// formats are the formats of disk images that need a program between disk and file, by what
// qemu-img calls them, and the bytes by which to know them.
var formats = []struct {
	name   string
	offset int
	magic  string
}{
	{"qcow2", 0, "QFI\xfb"},
	{"vmdk", 0, "KDMV"},
	{"vmdk", 0, "# Disk DescriptorFile"},
	{"vhdx", 0, "vhdxfile"},
	{"vpc", 0, "conectix"}, // VHD; one of fixed size is raw, with a footer
	{"vdi", 64, "\x7f\x10\xda\xbe"},
	{"qed", 0, "QED\x00"},
}

// checkRaw refuses a file of another format than raw with the command that converts it. Guests
// write a disk's first bytes, so what they say may refuse a disk but never decide how to read it.
func checkRaw(file *os.File) error {
	head := make([]byte, 128)
	n, _ := file.ReadAt(head, 0) // what cannot be read is for the guest to find
	for _, f := range formats {
		if end := f.offset + len(f.magic); end <= n && string(head[f.offset:end]) == f.magic {
			path := file.Name()
			return errorf("%s: a %s image, and a disk is a raw one: qemu-img convert -O raw '%s' '%s.raw' makes it one",
				path, f.name, path, strings.TrimSuffix(path, filepath.Ext(path)))
		}
	}
	return nil
}

// CheckRaw refuses the file at path as Open does if it is of another format than raw. A file that
// cannot be opened is no error.
func CheckRaw(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	return checkRaw(f)
}
