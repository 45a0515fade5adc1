package msicount

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Counters is a program at the tracepoint, with its map.
type Counters struct {
	counts, program, link int // descriptors
	users                 map[key]int
}

// key is the map's, as the program makes it.
type key struct{ address, data, tid uint64 }

// maxKeys is how many messages can be counted at a time, E2BIG beyond: some 100 KiB of the kernel's memory.
const maxKeys = 1024

// Open begins to look at every MSI. EPERM without the rights, ENOENT on a host whose KVM is not loaded.
func Open() (_ *Counters, err error) {
	c := &Counters{counts: -1, program: -1, link: -1, users: make(map[key]int)}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if c.counts, err = createHash(binary.Size(key{}), 8, maxKeys); err != nil {
		return nil, refused("BPF_MAP_CREATE", err)
	}
	var ns unix.Stat_t
	const path = "/proc/self/ns/pid"
	if err := unix.Stat(path, &ns); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if c.program, err = loadRawTracepoint(program(c.counts, ns.Dev, ns.Ino)); err != nil {
		return nil, refused("BPF_PROG_LOAD", err)
	}
	if c.link, err = attachRawTracepoint("kvm_msi_set_irq", c.program); err != nil {
		return nil, refused("BPF_RAW_TRACEPOINT_OPEN", err)
	}
	return c, nil
}

func refused(op string, err error) error {
	err = &os.PathError{Op: op, Path: "kvm_msi_set_irq", Err: err}
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w (it takes root, or CAP_BPF and CAP_PERFMON)", err)
	}
	return err
}

// Close ends all counting. Closing twice is fine.
func (c *Counters) Close() error {
	var errs []error
	for _, fd := range []*int{&c.link, &c.program, &c.counts} {
		if *fd >= 0 {
			errs = append(errs, unix.Close(*fd))
		}
		*fd = -1
	}
	return errors.Join(errs...)
}

// Counter counts one message of one thread.
type Counter struct {
	of    *Counters
	key   key
	start uint64 // what another Counter of the same had counted
}

// Count begins to count what the thread tid, as it is known in this process's pid namespace, sends with that address and data.
func (c *Counters) Count(tid int, address uint64, data uint32) (*Counter, error) {
	// Without KVM_CAP_X2APIC_API, KVM has no upper half of an address.
	n := &Counter{of: c, key: key{uint64(uint32(address)), uint64(data), uint64(tid)}}
	if c.users[n.key] == 0 {
		if err := update(c.counts, n.key.bytes(), make([]byte, 8)); err != nil {
			return nil, n.failed("BPF_MAP_UPDATE_ELEM", err)
		}
	} else {
		var err error
		if n.start, err = n.Count(); err != nil {
			return nil, err
		}
	}
	c.users[n.key]++
	return n, nil
}

// Count is how many so far.
func (n *Counter) Count() (uint64, error) {
	value := make([]byte, 8)
	if err := lookup(n.of.counts, n.key.bytes(), value); err != nil {
		return 0, n.failed("BPF_MAP_LOOKUP_ELEM", err)
	}
	return binary.NativeEndian.Uint64(value) - n.start, nil
}

// Close ends it. The Counter must not be used any more.
func (n *Counter) Close() error {
	if n.of.users[n.key]--; n.of.users[n.key] > 0 {
		return nil
	}
	delete(n.of.users, n.key)
	if err := remove(n.of.counts, n.key.bytes()); err != nil {
		return n.failed("BPF_MAP_DELETE_ELEM", err)
	}
	return nil
}

func (n *Counter) failed(op string, err error) error {
	return &os.PathError{Op: op, Path: fmt.Sprintf("message %#x to %#x by thread %d", n.key.data, n.key.address, n.key.tid), Err: err}
}

func (k key) bytes() []byte {
	var b []byte
	for _, v := range []uint64{k.address, k.data, k.tid} {
		b = binary.NativeEndian.AppendUint64(b, v)
	}
	return b
}
