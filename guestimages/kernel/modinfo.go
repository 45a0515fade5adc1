package modules

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"strings"
)

// Info is what a module says of itself in its section .modinfo; MODULE_INFO in the kernel's include/linux/module.h.
type Info struct {
	Release string   // the first word of vermagic: the kernel it was built for
	Depends []string // the modules it needs
}

// maxInfo bounds .modinfo, in bytes. The longest in Debian, of a graphics driver with its firmware's names, has a tenth.
const maxInfo = 1 << 20

// ReadInfo reads what the unpacked module b says of itself, and refuses one that is not for x86-64.
func ReadInfo(b []byte) (Info, error) {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return Info{}, fmt.Errorf("not a module: %w", err)
	}
	if f.Machine != elf.EM_X86_64 || f.Type != elf.ET_REL {
		return Info{}, fmt.Errorf("an ELF file of type %v for %v, want a module (ET_REL) for EM_X86_64", f.Type, f.Machine)
	}
	section := f.Section(".modinfo")
	if section == nil {
		return Info{}, errors.New("not a module: it has no section .modinfo")
	}
	if section.Size > maxInfo { // unpacked, where the section is compressed
		return Info{}, fmt.Errorf(".modinfo has %d bytes, more than %d", section.Size, maxInfo)
	}
	data, err := section.Data()
	if err != nil {
		return Info{}, fmt.Errorf(".modinfo: %w", err)
	}
	var info Info
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
