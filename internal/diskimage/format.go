package diskimage

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

// format returns the format that a file has instead of raw, or "". Guests write a disk's first
// bytes, so what they say may refuse a disk but never decide how to read it.
func (img *Image) format() string {
	head := make([]byte, 128)
	n, _ := img.File.ReadAt(head, 0) // what cannot be read is for the guest to find
	for _, f := range formats {
		if end := f.offset + len(f.magic); end <= n && string(head[f.offset:end]) == f.magic {
			return f.name
		}
	}
	return ""
}
