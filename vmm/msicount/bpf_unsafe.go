package msicount

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The parts of union bpf_attr (uapi/linux/bpf.h). Pointers have 64 bits on this architecture, as in the kernel's.
type (
	mapCreate  struct{ mapType, keySize, valueSize, maxEntries uint32 }
	mapElement struct {
		fd, _      uint32
		key, value unsafe.Pointer
		flags      uint64
	}
	progLoad struct {
		progType, count uint32
		code, license   unsafe.Pointer
	}
	rawTracepointOpen struct {
		name  unsafe.Pointer
		fd, _ uint32
	}
)

func bpf(command int, attr unsafe.Pointer, size uintptr) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attr), size)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// createHash makes a hash map with room for all its entries, BPF_MAP_CREATE. All of bpf's descriptors are closed on exec.
func createHash(keySize, valueSize, entries int) (fd int, err error) {
	a := mapCreate{unix.BPF_MAP_TYPE_HASH, uint32(keySize), uint32(valueSize), uint32(entries)}
	return bpf(unix.BPF_MAP_CREATE, unsafe.Pointer(&a), unsafe.Sizeof(a))
}

// loadRawTracepoint has the kernel check and translate a program, BPF_PROG_LOAD.
func loadRawTracepoint(program []byte) (fd int, err error) {
	const size = 8 // of struct bpf_insn
	var license [1]byte
	a := progLoad{progType: unix.BPF_PROG_TYPE_RAW_TRACEPOINT, count: uint32(len(program) / size), code: unsafe.Pointer(&program[0]), license: unsafe.Pointer(&license)}
	return bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&a), unsafe.Sizeof(a))
}

// attachRawTracepoint has a program run until the descriptor is closed, BPF_RAW_TRACEPOINT_OPEN.
func attachRawTracepoint(name string, program int) (fd int, err error) {
	text, err := unix.BytePtrFromString(name)
	if err != nil {
		return -1, err
	}
	a := rawTracepointOpen{name: unsafe.Pointer(text), fd: uint32(program)}
	return bpf(unix.BPF_RAW_TRACEPOINT_OPEN, unsafe.Pointer(&a), unsafe.Sizeof(a))
}

// update sets the value of a key, BPF_MAP_UPDATE_ELEM.
func update(fd int, key, value []byte) error {
	return element(unix.BPF_MAP_UPDATE_ELEM, fd, key, value)
}

// lookup reads the value of a key, BPF_MAP_LOOKUP_ELEM. ENOENT if there is none.
func lookup(fd int, key, value []byte) error {
	return element(unix.BPF_MAP_LOOKUP_ELEM, fd, key, value)
}

// remove takes a key away, BPF_MAP_DELETE_ELEM.
func remove(fd int, key []byte) error { return element(unix.BPF_MAP_DELETE_ELEM, fd, key, nil) }

func element(command, fd int, key, value []byte) error {
	a := mapElement{fd: uint32(fd), key: unsafe.Pointer(unsafe.SliceData(key)), value: unsafe.Pointer(unsafe.SliceData(value))}
	_, err := bpf(command, unsafe.Pointer(&a), unsafe.Sizeof(a))
	return err
}
