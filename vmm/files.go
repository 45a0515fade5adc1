package vmm

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"minivmm/devices/virtio"
)

const (
	// filesPerQueue is the maximum number of descriptors that a backend opens for each queue when
	// the driver starts the device. A vhost ring needs two for its error eventfd; a queue served in
	// process needs one, a second descriptor of Kick.
	filesPerQueue = 2
	// filesWhileRunning is the number of descriptors for everything else that a running machine
	// opens: the control socket and its connections, and files of /proc and of the cgroup for a
	// report.
	filesWhileRunning = 12
)

// withFiles is a device that holds as many spare descriptors as its next activation needs. The
// driver decides when to activate the device. If a limit on open files were reached at that time,
// the guest would have a dead device.
type withFiles struct {
	virtio.Device
	held []int
}

// reserveFiles returns EMFILE or ENFILE if there are too few descriptors. In that case the caller
// still owns the device.
func reserveFiles(dev virtio.Device) (*withFiles, error) {
	d := &withFiles{Device: dev}
	if err := d.hold(filesPerQueue * len(dev.QueueSizes())); err != nil {
		return nil, errors.Join(err, d.release())
	}
	return d, nil
}

// hold opens placeholders until n are open.
func (d *withFiles) hold(n int) error {
	for len(d.held) < n {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			return fmt.Errorf("reserve %d file descriptors: %w", n, os.NewSyscallError("eventfd2", err))
		}
		d.held = append(d.held, fd)
	}
	return nil
}

func (d *withFiles) release() (err error) {
	for _, fd := range d.held {
		err = errors.Join(err, unix.Close(fd))
	}
	d.held = nil
	return err
}

// Activate, Reset and Close implement [virtio.Device]. Reset takes back the descriptors that the
// activation used, or fewer if other files have taken their place.
func (d *withFiles) Activate(a virtio.Activation) error {
	return errors.Join(d.release(), d.Device.Activate(a))
}

func (d *withFiles) Reset() error {
	err := d.Device.Reset()
	_ = d.hold(filesPerQueue * len(d.QueueSizes()))
	return err
}

func (d *withFiles) Close() error { return errors.Join(d.release(), d.Device.Close()) }

// checkFiles returns an error if a machine that is ready to run could not open the files it needs
// later.
func checkFiles() error {
	var d withFiles
	return errors.Join(d.hold(filesWhileRunning), d.release())
}

// explainFiles adds the limit of open files to an error that it caused. What was open at that time is
// not known: the machine has closed its files since.
func explainFiles(err error) error {
	switch {
	case errors.Is(err, unix.EMFILE):
		var l unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
			return err
		}
		return fmt.Errorf("%w (RLIMIT_NOFILE %d is too low for this machine; see rlimits.nofile and ulimit -n)", err, l.Cur)
	case errors.Is(err, unix.ENFILE):
		used, _, _ := strings.Cut(readText("/proc/sys/fs/file-nr"), "\t")
		return fmt.Errorf("%w (fs.file-max %s: the host has %s files open)", err, readText("/proc/sys/fs/file-max"), used)
	}
	return err
}

// readText returns the contents of a small file in /proc or /sys. If it cannot be read, for example
// because the host has no free descriptor, readText returns "unknown".
func readText(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}
