package vmm

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/console"
	"minivmm/devices/virtio/net"
	"minivmm/devices/virtio/rng"
	"minivmm/internal/diskimage"
	"minivmm/vhost"
	"minivmm/vhost/lio"
	"minivmm/vmm/config"
)

// Plan is a machine with every choice made: [Resolve] creates it and [New] builds it. It is plain
// data and belongs to the caller.
type Plan struct {
	// Config is the plan's own copy of the configuration. No backend, number of queues or
	// notification method in it is "auto". The disk of an image is the first one; the caller must
	// set its path.
	config.Config

	// Ports are the names of the streams to programs in the guest, which open
	// /dev/virtio-ports/NAME.
	Ports []string
}

// Resolve decides what cfg leaves open, based on what this user can use on this host. It does not
// change cfg. Each note is one line about a feature that the machine does not get, and the reason.
// If the host changes between Resolve and New, New may fail.
func Resolve(cfg *config.Config, ports ...string) (p Plan, notes []string) {
	p = Plan{Config: *cfg, Ports: ports}
	p.Net, p.Disk = slices.Clone(cfg.Net), slices.Clone(cfg.Disk)
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	for i := range p.Net {
		p.resolveNet(&p.Net[i], note)
	}
	if p.Image != "" {
		p.Disk = slices.Insert(p.Disk, 0, p.ImageDisk())
	}
	backend := p.diskBackend(note)
	for i := range p.Disk {
		p.Disk[i].Backend = backend
	}
	p.SCSI.Queues = config.Queues(p.RequestQueues())
	if p.Machine.Notify == config.NotifyAuto {
		p.Machine.Notify = cheapestNotify()
	}
	return p, notes
}

type noter func(format string, args ...any)

// resolveNet chooses a NIC's backend and its number of queue pairs.
func (p *Plan) resolveNet(n *config.Net, note noter) {
	if n.Backend == config.NetAuto {
		var why string
		n.Backend, why = chooseNet(n, func() error { return tapObstacle(&p.Namespaces) })
		if why != "" {
			note("%s: backend %s: %s", n.ID, n.Backend, why)
		}
	}
	pairs := p.QueuePairs(n)
	inProcess := n.Backend == config.NetUser
	switch {
	case pairs == 1:
	case inProcess:
		note("%s: one queue pair instead of %d: its network is in this process", n.ID, pairs)
		pairs = 1
	case n.Queues == config.QueuesAuto && n.Tap != "":
		if multi, err := net.TapIsMultiqueue(string(n.Tap)); err == nil && !multi {
			note("%s: one queue pair instead of %d: tap %s was created without multi_queue", n.ID, pairs, n.Tap)
			pairs = 1
		}
	}
	n.Queues = config.Queues(pairs)
	if inProcess && (len(n.Affinity) > 0 || n.BusyPoll.Duration > 0) {
		note("%s: affinity and busy_poll have no effect: they apply to kernel workers, and this network is in this process", n.ID)
	}
}

// chooseNet returns the backend of a NIC that is configured as "auto": vhost, if the NIC's other
// keys allow it and this process can use it. Otherwise it also returns the reason.
func chooseNet(n *config.Net, obstacle func() error) (config.NetBackend, string) {
	switch {
	case n.User() != "":
		return config.NetUser, n.User()
	case n.Tap != "" || n.Bridge != "" || n.Address.IsValid():
		return config.NetVhost, ""
	}
	if err := obstacle(); err != nil {
		return config.NetUser, err.Error()
	}
	return config.NetVhost, ""
}

// tapObstacle returns the reason why this process cannot use vhost-net on a tap that it creates, or
// nil.
func tapObstacle(in *config.Namespaces) error {
	if in.User && in.Net != config.NetNew {
		return errors.New("creating a tap requires CAP_NET_ADMIN in the user namespace that owns the network namespace; with namespaces.user, set namespaces.net = \"new\"")
	}
	for _, node := range []string{"/dev/vhost-net", "/dev/net/tun"} {
		// AT_EACCESS: check as open(2) does, with this process's capabilities.
		if err := unix.Faccessat(unix.AT_FDCWD, node, unix.R_OK|unix.W_OK, unix.AT_EACCESS); err != nil {
			return fmt.Errorf("%s: %w", node, err)
		}
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	if data[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return errors.New("creating a tap requires CAP_NET_ADMIN")
	}
	// In a container sysctls are read-only, so the host could not be protected from the guest.
	const sysctls = "/proc/sys/net/ipv4/conf/default/rp_filter"
	if err := unix.Faccessat(unix.AT_FDCWD, sysctls, unix.W_OK, unix.AT_EACCESS); errors.Is(err, unix.EROFS) {
		return fmt.Errorf("%s: %w", sysctls, err)
	}
	return nil
}

// diskBackend chooses the backend of the disks: the kernel if possible.
func (p *Plan) diskBackend(note noter) config.DiskBackend {
	if b := p.DiskBackend(); b != config.DiskAuto || len(p.Disk) == 0 {
		return b
	}
	if err := p.vhostSCSIObstacle(note); err != nil {
		note("%s: disks are served in process, not by vhost-scsi: %v", scsiName, err)
		return config.DiskInProcess
	}
	return config.DiskVhostSCSI
}

// vhostSCSIObstacle returns the reason why the kernel cannot serve the disks, or nil.
func (p *Plan) vhostSCSIObstacle(note noter) error {
	release, err := kernelRelease()
	if err != nil {
		return err
	}
	if err := lunResetIsSafeOn(release, len(p.Disk)); err != nil {
		return err
	}
	dev, err := vhost.OpenScsi()
	if err != nil {
		return err
	}
	if err := dev.Close(); err != nil {
		return err
	}
	notes, err := lio.Usable()
	for _, text := range notes {
		note("%s", text)
	}
	if err != nil {
		return err
	}
	for _, d := range p.Disk {
		// The disk of an image has no path yet: it will be minivmm's own writable file.
		if err := (diskimage.Options{Path: string(d.Path), ReadOnly: d.ReadOnly}).KernelCan(); err != nil {
			return err
		}
	}
	return nil
}

// lunResetIsSafeOn rejects kernels on which a guest with several disks can crash the host: after a
// LUN reset, vhost_scsi_release_tmf_res corrupts a list of another LUN (drivers/vhost/scsi.c before
// 6.4), and removing the target then uses that list. Seen on 6.1.
func lunResetIsSafeOn(release string, disks int) error {
	fixed, err := since(release, 6, 4)
	if err == nil && disks > 1 && !fixed {
		return fmt.Errorf("with several disks, a guest can crash a host on Linux %s by resetting one of them (fixed in 6.4); to accept the risk, set backend = %q", release, config.DiskVhostSCSI)
	}
	return err
}

// cpuMaxHoldsOn returns an error if limits.cpu_max does not throttle the machine's kernel workers.
// Since Linux 6.18 a task is throttled when it returns to user mode, which a worker never does
// (kernel/sched/fair.c, task_throttle_setup_work).
func (p *Plan) cpuMaxHoldsOn(release string) error {
	var devices []string
	for _, n := range p.Net {
		if n.Backend == config.NetVhost {
			devices = append(devices, string(n.ID))
		}
	}
	if len(p.Disk) > 0 && p.Disk[0].Backend == config.DiskVhostSCSI {
		devices = append(devices, scsiName)
	}
	if p.Limits.CPUMax == 0 || len(devices) == 0 {
		return nil
	}
	if broken, err := since(release, 6, 18); err != nil || !broken {
		return err
	}
	return fmt.Errorf("limits.cpu_max: Linux %s does not throttle the kernel's workers of %s (6.18 and later do not); they are limited only "+
		"as the virtual CPUs give them less work, and not while they poll (busy_poll); devices in process are throttled (backend = %q or %q): %w",
		release, strings.Join(devices, ", "), config.NetUser, config.DiskInProcess, errors.ErrUnsupported)
}

// since reports whether release, such as "6.12.9-amd64", is Linux major.minor or later.
func since(release string, major, minor int) (bool, error) {
	var x, y int
	if _, err := fmt.Sscanf(release, "%d.%d", &x, &y); err != nil {
		return false, fmt.Errorf("kernel release %q: %w", release, err)
	}
	return x > major || x == major && y >= minor, nil
}

// kernelRelease returns the running kernel's release, as uname -r prints it.
func kernelRelease() (string, error) {
	var u unix.Utsname
	err := unix.Uname(&u)
	return unix.ByteSliceToString(u.Release[:]), os.NewSyscallError("uname", err)
}

// device is one virtio device of a plan.
type device struct {
	name    string
	workers int // maximum number of kernel workers
	make    func(*VM) (virtio.Device, error)
}

// devices returns all devices in the order of their PCI slots, which start at 1. Slot 0 is the host
// bridge.
func (p *Plan) devices() (list []device) {
	for i := range p.Net {
		n := &p.Net[i]
		list = append(list, device{string(n.ID), p.QueuePairs(n), func(m *VM) (virtio.Device, error) {
			return m.newNet(n)
		}})
	}
	if len(p.Disk) > 0 {
		list = append(list, device{scsiName, p.RequestQueues(), (*VM).newSCSI})
	}
	if len(p.Ports) > 0 {
		list = append(list, device{"console0", 0, func(m *VM) (virtio.Device, error) {
			return console.New(m.opt.Ports)
		}})
	}
	return append(list, device{"rng0", 0, func(*VM) (virtio.Device, error) {
		return rng.New(rand.Reader), nil
	}})
}
