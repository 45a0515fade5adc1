package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"minivmm/vmm/account"
	"minivmm/vmm/config"
	"minivmm/vmm/control"
)

// show starts the machine, makes every transfer, powers the guest off and prints the results. The
// error describes the first failure. Progress goes to log.
func show(ctx context.Context, out, log io.Writer) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cfg, err := config.Resolve(example, nil)
	if err != nil {
		return err
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return err
	}
	r := report{cfg: cfg, host: strings.TrimSpace(string(release))}
	fmt.Fprintf(log, "%s run --verbose %s, on Linux %s\n", program, example, r.host)
	m, err := startMachine(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		cancel()
		<-m.ended
		if said := m.said.String(); err != nil && said != "" {
			err = fmt.Errorf("%w\noutput of minivmm:\n%s", err, said)
		}
	}()
	if err := use(ctx, m, &r, log); err != nil {
		return err
	}
	fmt.Fprintln(log, "pressing the guest's power button")
	if err := m.powerOff(); err != nil {
		return err
	}
	if err := makeDisk(r.image()); err != nil { // frees the blocks that the transfers filled
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

// use does everything between the start and the power-off of the guest.
func use(ctx context.Context, m *machine, r *report, log io.Writer) (err error) {
	if r.guest, err = m.run(ctx, "uname -r"); err != nil {
		return err
	}
	fmt.Fprintf(log, "the guest's shell is ready, on Linux %s\n", r.guest)
	if _, err := m.run(ctx, "while ! [ -b /dev/sda ]; do usleep 10000; done"); err != nil {
		return err
	}
	address := r.cfg.Net[0].Address
	b := bench{m: m, image: r.image(), name: string(r.cfg.Name), address: address.String(), sums: map[string]sum{}}
	if b.listener, err = net.Listen("tcp", net.JoinHostPort(address.Addr().String(), "0")); err != nil {
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
	now, err := usage(ctx, b.name)
	if err != nil {
		return err
	}
	r.workers = slices.DeleteFunc(now.Threads, func(t account.Thread) bool { return t.Kind != account.Worker })
	return nil
}

// usage returns minivmm's report of the machine's resource usage. If a request times out, usage
// asks again: in an emulated host on a busy computer, minivmm may need longer for the report than a
// client waits.
func usage(ctx context.Context, name string) (*account.Report, error) {
	ask := control.Request{Command: control.CommandWorkers}
	answer, _, err := control.Call(name, ask)
	for errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
		answer, _, err = control.Call(name, ask)
	}
	if err != nil {
		return nil, err
	}
	if answer.Workers == nil {
		return nil, errors.New("minivmm reported no workers")
	}
	return answer.Workers, nil
}

// counters holds readings, or the differences between two readings.
type counters struct {
	exits     uint64 // VM exits of all vCPUs; the kernel handles most of them
	userExits uint64 // mmio_exits and io_exits: an upper bound on the exits to user space
	packets   uint64 // packets through the tap, in both directions
	requests  uint64 // requests to the disk, as LIO counts them
}

func (c counters) since(before counters) counters {
	c.exits -= before.exits
	c.userExits -= before.userExits
	c.packets -= before.packets
	c.requests -= before.requests
	return c
}

// count reads all counters.
func (b *bench) count(ctx context.Context) (c counters, err error) {
	now, err := usage(ctx, b.name)
	if err != nil {
		return c, err
	}
	if len(now.KVM.VCPUs) == 0 {
		return c, fmt.Errorf("the machine's report lacks figures: %q", now.Missing)
	}
	for _, vcpu := range now.KVM.VCPUs {
		c.exits += vcpu["exits"]
		c.userExits += vcpu["mmio_exits"] + vcpu["io_exits"]
	}
	for _, disk := range now.Disks {
		c.requests += disk.Commands
	}
	c.packets, err = packets(b.address)
	return c, err
}

// packets returns the number of packets that the interface with the given address has transferred
// in both directions.
func packets(address string) (uint64, error) {
	all, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(all, func(a netlink.Addr) bool { return a.IPNet.String() == address })
	if i < 0 {
		return 0, fmt.Errorf("no interface has the address %s", address)
	}
	tap, err := netlink.LinkByIndex(all[i].LinkIndex)
	if err != nil {
		return 0, err
	}
	s := tap.Attrs().Statistics
	return s.RxPackets + s.TxPackets, nil
}
