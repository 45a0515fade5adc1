package vmm

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/devices/virtio"
)

// hungry opens as many files as the largest backend does for its queues.
type hungry struct {
	virtio.Device
	open []int
}

func (h *hungry) QueueSizes() []uint16 { return []uint16{16, 16, 16} }

func (h *hungry) Activate(virtio.Activation) (err error) {
	for range filesPerQueue * len(h.QueueSizes()) {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			return err
		}
		h.open = append(h.open, fd)
	}
	return nil
}

func (h *hungry) Reset() error {
	for _, fd := range h.open {
		unix.Close(fd)
	}
	h.open = nil
	return nil
}

func (h *hungry) Close() error { return h.Reset() }

// TestActivationHasReservedFiles uses up all descriptors before each activation of a device.
func TestActivationHasReservedFiles(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = 256
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	var others withFiles // all other descriptors
	defer func() { others.release() }()
	takeAll := func() {
		if err := others.hold(1 << 20); !errors.Is(err, unix.EMFILE) {
			t.Fatalf("opening all files: %v", err)
		}
	}

	dev, err := reserveFiles(&hungry{})
	if err != nil {
		t.Fatal(err)
	}
	for life := range 3 {
		takeAll()
		if err := dev.Activate(virtio.Activation{}); err != nil {
			t.Fatalf("life %d: %v", life, err)
		}
		takeAll()
		if err := dev.Reset(); err != nil {
			t.Fatal(err)
		}
	}
	takeAll()
	if _, err := reserveFiles(&hungry{}); !errors.Is(err, unix.EMFILE) {
		t.Errorf("a second device: %v, want EMFILE", err)
	}
	if err := checkFiles(); !errors.Is(err, unix.EMFILE) {
		t.Errorf("checkFiles: %v, want EMFILE", err)
	}
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	if n := openFiles(256); n != 256-filesPerQueue*3 {
		t.Errorf("%d files are open after Close", n)
	}
}

// openFiles returns how many descriptors below limit are open in this process.
func openFiles(limit int) (n int) {
	for fd := range limit {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			n++
		}
	}
	return n
}
