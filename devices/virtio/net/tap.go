package net

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"minivmm/devices/virtio"
)

// headerBytes is the size of struct virtio_net_hdr_v1, which precedes every frame with VERSION_1.
// If the tap keeps its default header size of 10 bytes, it silently drops every received frame.
const headerBytes = 12

// TapConfig describes the tap of a NIC.
type TapConfig struct {
	// Name of an existing tap. If it is "", OpenTap creates a tap called NewName. The kernel
	// removes the created tap when its last descriptor is closed, however the process exits.
	Name    string
	NewName string // may contain %d, which the kernel replaces by a number

	// Queues is the number of queues of the tap, one for each queue pair of the NIC; 0 means 1. If
	// Queues is more than 1, an existing tap must be a multiqueue tap.
	Queues int

	// MTU of the guest's NIC, and of a tap created here unless the tap joins a bridge; 0 keeps the
	// MTU of the interface.
	MTU int

	// Address and Bridge apply only to a tap created here.
	Address netip.Prefix // of the host's end; the zero Prefix sets none
	Bridge  string       // an existing bridge to join; "" joins none
}

// Tap is an open tap. Its frames have virtio-net headers of 12 bytes, and its link is up. It has
// one descriptor per queue. At first only the first queue is attached (setQueues).
//
// The descriptors are never added to Go's poller: the kernel's vhost workers use them.
type Tap struct {
	fds      []int
	name     string
	mtu      int  // for the guest
	made     bool // created here, so only this guest uses it
	attached int  // number of attached queues, starting with the first
	filtered bool // the kernel's filter is on
}

// OpenTap creates or opens a tap. It must run in the network namespace of the tap. The caller must
// close the Tap, but only after it has closed the vhost device that uses the Tap.
func OpenTap(cfg TapConfig) (_ *Tap, err error) {
	cfg.Queues = max(cfg.Queues, 1)
	t := &Tap{name: cfg.Name, made: cfg.Name == ""}
	multi := cfg.Queues > 1
	if t.made {
		t.name = cfg.NewName
	} else if multi, err = checkTap(cfg); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	for range cfg.Queues {
		if err := t.open(multi); err != nil {
			return nil, err
		}
	}
	if err := unix.IoctlSetPointerInt(t.fds[0], unix.TUNSETVNETHDRSZ, headerBytes); err != nil {
		return nil, &os.PathError{Op: "TUNSETVNETHDRSZ", Path: t.name, Err: err}
	}
	if err := t.setQueues(1); err != nil {
		return nil, err
	}
	if err := t.setUp(cfg); err != nil {
		return nil, fmt.Errorf("tap %s: %w", t.name, err)
	}
	return t, nil
}

// open opens one more queue. The first call for a new tap creates the tap.
func (t *Tap) open(multi bool) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return tunHint(&os.PathError{Op: "open", Path: "/dev/net/tun", Err: err})
	}
	t.fds = append(t.fds, fd)
	req, err := unix.NewIfreq(t.name)
	if err != nil {
		return fmt.Errorf("tap name %q: %w", t.name, err)
	}
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if multi {
		flags |= unix.IFF_MULTI_QUEUE
	}
	req.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return tapHint(t.name, t.made, err)
	}
	t.name = req.Name()
	t.attached++
	return nil
}

// checkTap checks an existing tap before it is opened: with a misspelled name, TUNSETIFF would
// create a new tap. multi reports whether the tap must be opened with IFF_MULTI_QUEUE.
func checkTap(cfg TapConfig) (multi bool, err error) {
	name := cfg.Name
	word := ""
	if cfg.Queues > 1 {
		word = " multi_queue"
	}
	link, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return false, fmt.Errorf("tap %s: %w: create it with \"ip tuntap add dev %s mode tap user $USER vnet_hdr%s && ip link set %s up\", or omit the key to have minivmm create one", name, unix.ENODEV, name, word, name)
	}
	if err != nil {
		return false, fmt.Errorf("tap %s: %w", name, err)
	}
	tun, ok := link.(*netlink.Tuntap)
	if !ok {
		return false, fmt.Errorf("tap %s: %w: the interface of this name has type %q, not a tap", name, unix.ENODEV, link.Type())
	}
	multi = tun.Flags&netlink.TUNTAP_MULTI_QUEUE != 0
	if cfg.Queues > 1 && !multi {
		return false, fmt.Errorf("tap %s: %w: it has one queue, but the NIC needs %d: recreate it with \"ip tuntap del dev %s mode tap\", then \"ip tuntap add dev %s mode tap user $USER vnet_hdr multi_queue && ip link set %s up\", or set queues = 1",
			name, unix.EOPNOTSUPP, cfg.Queues, name, name, name)
	}
	if multi && tun.Queues+tun.DisabledQueues > 0 {
		// TUNSETIFF would add a queue to a tap that another program uses.
		return false, tapHint(name, false, unix.EBUSY)
	}
	return multi, nil
}

// TapIsMultiqueue reports whether an existing tap may have several queues. Its errors are the same
// as OpenTap's.
func TapIsMultiqueue(name string) (bool, error) { return checkTap(TapConfig{Name: name}) }

// tunHint adds the fix to an error from opening the device node.
func tunHint(err *os.PathError) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%w: load the module with \"modprobe tun\"", err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: run as root, or give users access with \"chmod 666 /dev/net/tun\"", err)
	}
	return err
}

// tapHint adds the fix to an error from creating or opening a tap.
func tapHint(name string, made bool, errno error) error {
	err := &os.PathError{Op: "TUNSETIFF", Path: name, Err: errno}
	switch {
	case made && errors.Is(errno, unix.EPERM):
		err.Path = "a new tap"
		return fmt.Errorf("%w: creating a tap requires CAP_NET_ADMIN; or create one in advance with \"ip tuntap add dev NAME mode tap user $USER vnet_hdr && ip link set NAME up\" and pass its name", err)
	case errors.Is(errno, unix.EPERM):
		return fmt.Errorf("%w: it belongs to another user; as root, change its owner with \"ip tuntap add dev %s mode tap user USER vnet_hdr\"", err, name)
	case errors.Is(errno, unix.EBUSY):
		return fmt.Errorf("%w: another program has this tap open", err)
	case errors.Is(errno, unix.EINVAL):
		return fmt.Errorf("%w: the interface was created with other flags: it must be a tap, not a tun", err)
	}
	return err
}

// setUp configures a tap created here and brings the link up. As long as the link is down, vhost
// starts no ring.
func (t *Tap) setUp(cfg TapConfig) error {
	link, err := netlink.LinkByName(t.name)
	if err != nil {
		return err
	}
	t.mtu = cmp.Or(cfg.MTU, link.Attrs().MTU)
	if t.made {
		if err := t.configure(link, cfg); err != nil {
			return err
		}
	}
	if link.Attrs().Flags&unix.IFF_UP != 0 {
		return nil
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring the link up: %w: this requires CAP_NET_ADMIN; or run \"ip link set %s up\" once", err, t.name)
	}
	return nil
}

// configure sets the properties of a tap created here. Before the tap joins a bridge, configure
// gives it at least the bridge's MTU, because a bridge reduces its MTU to the smallest MTU of its
// ports.
func (t *Tap) configure(link netlink.Link, cfg TapConfig) error {
	if err := protectHost(t.name, cfg.Address.Addr().Is6()); err != nil {
		return err
	}
	mtu := t.mtu
	var bridge netlink.Link
	if cfg.Bridge != "" {
		var err error
		if bridge, err = findBridge(cfg.Bridge); err != nil {
			return fmt.Errorf("bridge %s: %w", cfg.Bridge, err)
		}
		mtu = max(cfg.MTU, bridge.Attrs().MTU)
		t.mtu = cmp.Or(cfg.MTU, mtu)
	}
	if err := netlink.LinkSetMTU(link, mtu); err != nil {
		return fmt.Errorf("set mtu %d: %w", mtu, err)
	}
	if cfg.Address.IsValid() {
		if err := addAddress(link, cfg.Address); err != nil {
			return fmt.Errorf("address %s: %w", cfg.Address, err)
		}
	}
	if bridge != nil {
		if err := netlink.LinkSetMaster(link, bridge); err != nil {
			return fmt.Errorf("bridge %s: %w", cfg.Bridge, err)
		}
	}
	return nil
}

// addAddress adds an address to a link, unless another interface already has this address. The
// kernel would allow the duplicate and answer for the address on both interfaces, so the guest of
// the second interface would be unreachable.
func addAddress(link netlink.Link, address netip.Prefix) error {
	addr, err := netlink.ParseAddr(address.String())
	if err != nil {
		return err
	}
	if address.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD // otherwise the guest could claim the address first (RFC 4862 §5.4)
	}
	taken, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, other := range taken {
		if other.IP.Equal(addr.IP) {
			return fmt.Errorf("%w: %s already has it", unix.EADDRINUSE, linkName(other.LinkIndex))
		}
	}
	return netlink.AddrAdd(link, addr)
}

func linkName(index int) string {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return fmt.Sprintf("interface %d", index)
	}
	return link.Attrs().Name
}

func findBridge(name string) (netlink.Link, error) {
	bridge, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil, fmt.Errorf("%w: create it with \"ip link add %s type bridge && ip link set %s up\"", unix.ENODEV, name, name)
	}
	return bridge, err
}

// MTU returns the MTU for the guest: the configured MTU, or else the MTU of the interface.
func (t *Tap) MTU() int { return t.mtu }

// setOffloads sets which offloads the guest can receive (TUNSETOFFLOAD, linux/if_tun.h); if f
// contains none of them, all are disabled. The kernel rejects TSO without checksum offload and ECN
// without TSO. Drivers must not negotiate these combinations either (virtio 1.2 §5.1.3.1), so
// offloads omits such bits.
func (t *Tap) setOffloads(f virtio.Features) error {
	if err := unix.IoctlSetInt(t.fds[0], unix.TUNSETOFFLOAD, offloads(f)); err != nil {
		return &os.PathError{Op: "TUNSETOFFLOAD", Path: t.name, Err: err}
	}
	return nil
}

// offloads converts the offloads that the guest can receive into the tap's TUN_F_* bits. The two
// USO bits are valid only together (drivers/net/tun.c).
func offloads(f virtio.Features) int {
	var bits int
	for _, row := range []struct {
		need virtio.Features
		bit  int
	}{
		{FeatureGuestCsum, unix.TUN_F_CSUM},
		{FeatureGuestCsum | FeatureGuestTSO4, unix.TUN_F_TSO4},
		{FeatureGuestCsum | FeatureGuestTSO6, unix.TUN_F_TSO6},
		{FeatureGuestCsum | FeatureGuestECN | FeatureGuestTSO4, unix.TUN_F_TSO_ECN},
		{FeatureGuestCsum | FeatureGuestECN | FeatureGuestTSO6, unix.TUN_F_TSO_ECN},
		{FeatureGuestCsum | FeatureGuestUSO4 | FeatureGuestUSO6, unix.TUN_F_USO4 | unix.TUN_F_USO6},
	} {
		if f.Has(row.need) {
			bits |= row.bit
		}
	}
	return bits
}

// hasUSO reports whether a tap can pass UDP segments (Linux 6.2). Afterwards all offloads of the
// tap are disabled.
func (t *Tap) hasUSO() bool {
	err := t.setOffloads(FeatureGuestCsum | FeatureGuestUSO4 | FeatureGuestUSO6)
	return err == nil && t.setOffloads(0) == nil
}

// setQueues attaches the first n queues and detaches the others (TUNSETQUEUE): the host sends only
// into attached queues. The first queue is always attached. The last queue is detached first. This
// keeps the order of the queues: drivers/net/tun.c moves the last queue into the place of a
// detached one.
func (t *Tap) setQueues(n int) error {
	n = max(n, 1)
	for t.attached > n {
		if err := t.setQueue(t.attached-1, unix.IFF_DETACH_QUEUE); err != nil {
			return err
		}
		t.attached--
	}
	for t.attached < min(n, len(t.fds)) {
		if err := t.setQueue(t.attached, unix.IFF_ATTACH_QUEUE); err != nil {
			return err
		}
		t.attached++
	}
	return nil
}

func (t *Tap) setQueue(i int, flag uint16) error {
	req, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	req.SetUint16(flag)
	if err := unix.IoctlIfreq(t.fds[i], unix.TUNSETQUEUE, req); err != nil {
		return fmt.Errorf("queue %d: %w", i, &os.PathError{Op: "TUNSETQUEUE", Path: t.name, Err: err})
	}
	return nil
}

// setFilter makes the tap drop frames that the guest does not want (TUNSETTXFILTER). It only
// changes a tap created here: the kernel keeps the filter of a persistent tap, and the next user of
// such a tap would not know about the filter.
func (t *Tap) setFilter(f Filter) error {
	if !t.made || !t.filtered && !f.On {
		return nil
	}
	filter := f.tun()
	if err := setFilter(t.fds[0], t.name, &filter); err != nil {
		return err
	}
	t.filtered = filter.count > 0
	return nil
}

// Close closes the descriptors. The kernel then removes a tap that was created here.
func (t *Tap) Close() error {
	fds := t.fds
	t.fds, t.attached, t.filtered = nil, 0, false
	var errs []error
	for _, fd := range fds {
		if err := unix.Close(fd); err != nil {
			errs = append(errs, &os.PathError{Op: "close", Path: t.name, Err: err})
		}
	}
	return errors.Join(errs...)
}
