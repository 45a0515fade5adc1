package initrd

import (
	"bytes"
	"encoding/binary"

	"minivmm/guestimages/kernel"
)

// AddModules adds the named modules and their dependencies, unpacked and without signatures, as
// /modules/NAME.ko. It returns their paths in load order.
func (a *Archive) AddModules(t *kernel.Modules, names ...string) ([]string, error) {
	files, err := t.LoadOrder(names...)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, file := range files {
		b, err := t.Read(file)
		if err != nil {
			return nil, err
		}
		p := "/modules/" + kernel.ModuleName(file) + ".ko"
		a.File(p, 0o644, unsigned(b))
		paths = append(paths, p)
	}
	return paths, nil
}

// marker ends a signed module file: MODULE_SIG_STRING, kernel's include/linux/module_signature.h.
const marker = "~Module signature appended~\n"

// infoSize is the size of struct module_signature, which precedes the marker. Its last field, 32
// bits big endian, is the length of the signature, which precedes the struct.
const infoSize = 12

// unsigned returns a module file without its signature. The kernel then logs "module verification
// failed" and becomes tainted, once, but loads the module in a fraction of the time: under
// emulation, checking the signatures of the host's modules costs a third of the whole boot.
func unsigned(b []byte) []byte {
	info := len(b) - len(marker) - infoSize
	if info < 0 || !bytes.HasSuffix(b, []byte(marker)) {
		return b
	}
	size := uint64(binary.BigEndian.Uint32(b[info+infoSize-4:]))
	if size > uint64(info) {
		return b
	}
	return b[:uint64(info)-size]
}
