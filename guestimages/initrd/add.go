package initrd

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/agent"
	"minivmm/guestimages/filetree"
	"minivmm/guestimages/kernel"
)

// AddFile adds a regular file with owner 0 and the permission bits perm.
func AddFile(t *filetree.Tree, name string, perm uint32, data []byte) error {
	return t.Put(filetree.Node{Path: name, Mode: unix.S_IFREG | perm}, bytes.NewReader(data))
}

// AddInit adds the file named by program as /init. It also adds the plan p for init, and
// /dev/console, because the kernel opens /dev/console before init mounts /dev.
func AddInit(t *filetree.Tree, program string, p agent.Plan) error {
	b, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	plan, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	if err := AddFile(t, "/init", 0o755, b); err != nil {
		return err
	}
	if err := AddFile(t, agent.PlanPath, 0o644, plan); err != nil {
		return err
	}
	return t.Put(filetree.Node{Path: "/dev/console", Mode: unix.S_IFCHR | 0o600, Major: 5, Minor: 1}, nil)
}

// AddModules adds the named modules and their dependencies, unpacked and without signatures, as
// /modules/NAME.ko. It returns the paths of the added files in load order.
func AddModules(t *filetree.Tree, m *kernel.Modules, names ...string) ([]string, error) {
	files, err := m.LoadOrder(names...)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, file := range files {
		b, err := m.Read(file)
		if err != nil {
			return nil, err
		}
		p := "/modules/" + kernel.ModuleName(file) + ".ko"
		if err := AddFile(t, p, 0o644, unsigned(b)); err != nil {
			return nil, err
		}
		paths = append(paths, p)
	}
	return paths, nil
}

// marker ends a signed module file: MODULE_SIG_STRING in the kernel's
// include/linux/module_signature.h.
const marker = "~Module signature appended~\n"

// infoSize is the size in bytes of struct module_signature, which precedes the marker. The last
// field of the struct (32 bits, big endian) is the length of the signature. The signature precedes
// the struct.
const infoSize = 12

// unsigned returns a module file without its signature. Without signatures, the kernel logs "module
// verification failed" once and taints itself, but loads modules in a fraction of the time. Under
// emulation, checking the signatures of the host's modules takes a third of the whole boot time.
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
