package bench

import (
	"encoding/binary"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sizes of struct iocb and struct io_event (uapi/linux/aio_abi.h).
const (
	iocbBytes  = 64
	eventBytes = 32
)

// aio keeps a number of direct requests in flight with Linux's asynchronous I/O (io_submit(2)). It
// uses one thread, so that the benchmark measures the device and not the guest's scheduler.
type aio struct {
	fd, size, depth int
	ctx             uintptr
	write           bool
	blocks          int
	rng             *mathrand.Rand
	memory          []byte // buffers, then iocbs, pointers to them, events
	iocbs, pointers []byte
	events          []byte
}

func newAIO(path string, write bool, size, depth int) (*aio, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	end, err := unix.Seek(fd, 0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	a := &aio{fd: fd, size: size, depth: depth, write: write, blocks: int(end) / size, rng: mathrand.New(mathrand.NewPCG(uint64(size), uint64(depth)))}
	if _, _, e := unix.Syscall(unix.SYS_IO_SETUP, uintptr(depth), uintptr(unsafe.Pointer(&a.ctx)), 0); e != 0 {
		return nil, os.NewSyscallError("io_setup", e)
	}
	a.memory, err = unix.Mmap(-1, 0, depth*(size+iocbBytes+8+eventBytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	a.iocbs = a.memory[depth*size:]
	a.pointers = a.iocbs[depth*iocbBytes:]
	a.events = a.pointers[depth*8:]
	return a, nil
}

func (a *aio) close() error {
	if _, _, e := unix.Syscall(unix.SYS_IO_DESTROY, a.ctx, 0, 0); e != 0 {
		return os.NewSyscallError("io_destroy", e)
	}
	if err := unix.Munmap(a.memory); err != nil {
		return err
	}
	return unix.Close(a.fd)
}

func address(p []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(p))) }

// prepare prepares the next request in a slot. The written data depends only on the position, so
// that the order of requests does not matter.
func (a *aio) prepare(slot int) {
	block := a.rng.IntN(a.blocks)
	buf := a.memory[slot*a.size : (slot+1)*a.size]
	p := a.iocbs[slot*iocbBytes : (slot+1)*iocbBytes]
	clear(p)
	le := binary.LittleEndian
	le.PutUint64(p[0:], uint64(slot)) // aio_data
	if a.write {
		le.PutUint16(p[16:], 1) // IOCB_CMD_PWRITE
		for at := 0; at < len(buf); at += 512 {
			le.PutUint64(buf[at:], uint64(block*a.size+at))
		}
	}
	le.PutUint32(p[20:], uint32(a.fd))
	le.PutUint64(p[24:], uint64(address(buf)))
	le.PutUint64(p[32:], uint64(a.size))
	le.PutUint64(p[40:], uint64(block*a.size))
}

// run runs count requests and returns the time that they took.
func (a *aio) run(count int) (time.Duration, error) {
	start := time.Now()
	free := make([]int, a.depth)
	for i := range free {
		free[i] = i
	}
	for begun, done := 0, 0; done < count; {
		n := 0
		for ; len(free) > 0 && begun < count; begun++ {
			slot := free[len(free)-1]
			free = free[:len(free)-1]
			a.prepare(slot)
			binary.NativeEndian.PutUint64(a.pointers[8*n:], uint64(address(a.iocbs[slot*iocbBytes:])))
			n++
		}
		for at := 0; at < n; {
			k, _, e := unix.Syscall(unix.SYS_IO_SUBMIT, a.ctx, uintptr(n-at), address(a.pointers[8*at:]))
			if e != 0 {
				return 0, os.NewSyscallError("io_submit", e)
			}
			at += int(k)
		}
		k, _, e := unix.Syscall6(unix.SYS_IO_GETEVENTS, a.ctx, 1, uintptr(a.depth), address(a.events), 0, 0)
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			return 0, os.NewSyscallError("io_getevents", e)
		}
		for i := range int(k) {
			event := a.events[i*eventBytes:]
			if res := int64(binary.LittleEndian.Uint64(event[16:])); res != int64(a.size) {
				return 0, fmt.Errorf("a request of %d bytes returned %d", a.size, res)
			}
			free = append(free, int(binary.LittleEndian.Uint64(event)))
			done++
		}
	}
	return time.Since(start), nil
}
