package kernel

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"strings"
)

// modinfo is the content of a module's section .modinfo; MODULE_INFO in the kernel's
// include/linux/module.h.
type modinfo struct {
	Release string   // the first word of vermagic: the kernel it was built for
	Depends []string // the modules it depends on
}

// maxInfo limits the size of .modinfo, in bytes. The longest in Debian, of a graphics driver with
// the names of its firmware, has a tenth.
const maxInfo = 1 << 20

// readModinfo reads .modinfo of the unpacked module b, and rejects a module that is not for x86-64.
func readModinfo(b []byte) (modinfo, error) {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return modinfo{}, fmt.Errorf("not a module: %w", err)
	}
	if f.Machine != elf.EM_X86_64 || f.Type != elf.ET_REL {
		return modinfo{}, fmt.Errorf("an ELF file of type %v for %v, want a module (ET_REL) for EM_X86_64", f.Type, f.Machine)
	}
	section := f.Section(".modinfo")
	if section == nil {
		return modinfo{}, errors.New("not a module: it has no section .modinfo")
	}
	if section.Size > maxInfo { // the unpacked size if the section is compressed
		return modinfo{}, fmt.Errorf(".modinfo has %d bytes, more than %d", section.Size, maxInfo)
	}
	data, err := section.Data()
	if err != nil {
		return modinfo{}, fmt.Errorf(".modinfo: %w", err)
	}
	var info modinfo
	for field := range strings.SplitSeq(string(data), "\x00") {
		switch key, value, _ := strings.Cut(field, "="); key {
		case "vermagic":
			info.Release, _, _ = strings.Cut(value, " ")
		case "depends":
			info.Depends = strings.FieldsFunc(value, func(r rune) bool { return r == ',' })
		}
	}
	return info, nil
}
