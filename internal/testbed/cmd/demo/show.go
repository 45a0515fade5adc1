package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"

	"minivmm/vmm/config"
)

// kvmFolder is where KVM shows its counters.
const kvmFolder = "/sys/kernel/debug/kvm"

// show starts the machine, makes every transfer, powers the guest off and prints the results. The
// error describes the first failure. Progress goes to log.
func show(ctx context.Context, out, log io.Writer) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not finished after %v", patience))
	defer cancel()
	cfg, err := config.Load(example)
	if err != nil {
		return err
	}
	r := report{cfg: cfg}
	if r.host, err = release(); err != nil {
		return err
	}
	fmt.Fprintf(log, "%s run --verbose %s, on Linux %s\n", program, example, r.host)
	m, err := startMachine(ctx)
	if err != nil {
		return err
	}
	defer func() {
		m.end()
		err = m.explain(err)
	}()
	if err := use(ctx, m, &r, log); err != nil {
		return err
	}
	fmt.Fprintln(log, "pressing the guest's power button")
	if err := m.powerOff(ctx); err != nil {
		return err
	}
	if err := freeBlocks(r.image()); err != nil {
		return err
	}
	if err := r.print(out); err != nil {
		return err
	}
	if !r.good() {
		return errors.New("a checksum differs, or a worker is missing")
	}
	return nil
}

// use does everything between the guest's start and its power-off.
func use(ctx context.Context, m *machine, r *report, log io.Writer) (err error) {
	if r.guest, err = m.run(ctx, "uname -r"); err != nil {
		return err
	}
	fmt.Fprintf(log, "the guest's shell is ready, on Linux %s\n", r.guest)
	if _, err := m.run(ctx, "while ! [ -b /dev/sda ]; do usleep 10000; done"); err != nil {
		return err
	}
	b := bench{m: m, image: r.image(), sums: map[string]sum{}}
	if b.kvm, err = findKVMCounters(kvmFolder, m.process(), m.others); err != nil {
		return err
	}
	address := r.cfg.Net[0].Address.String()
	if b.tap, err = tapOf(address); err != nil {
		return err
	}
	ip, _, err := net.ParseCIDR(address)
	if err != nil {
		return err
	}
	if b.listener, err = net.ListenTCP("tcp", &net.TCPAddr{IP: ip}); err != nil {
		return err
	}
	defer b.listener.Close()
	for _, t := range transfers {
		result, err := b.do(ctx, t)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		r.results = append(r.results, result)
		fmt.Fprintf(log, "%s: %d MiB in %.2f s\n", t.name, transferBytes>>20, result.took.Seconds())
	}
	for _, w := range workers(m.said.String()) {
		spent, err := w.cpuTime(m.process())
		if err != nil {
			return err
		}
		r.workers = append(r.workers, workerTime{w, spent})
	}
	return nil
}

// release returns the kernel's release, as uname -r prints it.
func release() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", err
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// freeBlocks frees the blocks that the transfers filled, so that the image stays sparse.
func freeBlocks(image string) error {
	fd, err := unix.Open(image, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, transferBytes)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}
