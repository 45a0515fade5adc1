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

// headerBytes is struct virtio_net_hdr_v1: what a driver that negotiated
// VERSION_1 puts before every frame. A tap that is left at its default of 10
// drops every received packet without a word.
const headerBytes = 12

// TapConfig says which tap a NIC gets.
type TapConfig struct {
	// Name of an existing tap; "" makes one called NewName, which goes away
	// with the descriptor, however the process ends.
	Name    string
	NewName string // may hold %d, which the kernel fills

	// Queues is how many queues it has, one for each queue pair of the NIC; 0
	// is 1. For more than one a tap that exists must be a multiqueue one.
	Queues int

	MTU int // for the guest, and of a tap that is made here unless it joins a bridge; 0 keeps the interface's

	// These two are for a tap that is made here.
	Address netip.Prefix // the host's side; the zero Prefix gives none
	Bridge  string       // an existing bridge to join; "" joins none
}

// Tap is an open tap with virtio-net headers of 12 bytes, its link up. It has
// a descriptor a queue; all but the first are detached at first (setQueues).
//
// The descriptors never enter Go's poller: they belong to the kernel's workers.
type Tap struct {
	fds      []int
	name     string
	mtu      int  // for the guest
	made     bool // here, and so for one guest alone
	attached int  // queues, from the first
	filtered bool // a filter is on
}

// OpenTap makes or opens a tap. It must run in the network namespace that the
// tap is to be in. The caller closes the Tap, after the vhost device that uses it.
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

// open adds a queue. The first of a new tap makes the tap.
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

// checkTap keeps a misspelt name from making a new tap: TUNSETIFF would. It
// says whether the tap is a multiqueue one, which has to be opened as such.
func checkTap(cfg TapConfig) (multi bool, err error) {
	name := cfg.Name
	word := ""
	if cfg.Queues > 1 {
		word = " multi_queue"
	}
	link, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return false, fmt.Errorf("tap %s: %w: make it with \"ip tuntap add dev %s mode tap user $USER vnet_hdr%s && ip link set %s up\", or leave the key out and minivmm makes one", name, unix.ENODEV, name, word, name)
	}
	if err != nil {
		return false, fmt.Errorf("tap %s: %w", name, err)
	}
	tun, ok := link.(*netlink.Tuntap)
	if !ok {
		return false, fmt.Errorf("tap %s: %w: the interface of that name is of type %q", name, unix.ENODEV, link.Type())
	}
	multi = tun.Flags&netlink.TUNTAP_MULTI_QUEUE != 0
	if cfg.Queues > 1 && !multi {
		return false, fmt.Errorf("tap %s: %w: it was made with one queue, and %d are wanted: \"ip tuntap del dev %s mode tap\", then \"ip tuntap add dev %s mode tap user $USER vnet_hdr multi_queue && ip link set %s up\"; or set queues = 1",
			name, unix.EOPNOTSUPP, cfg.Queues, name, name, name)
	}
	if multi && tun.Queues+tun.DisabledQueues > 0 {
		// TUNSETIFF would add a queue to the other program's.
		return false, tapHint(name, false, unix.EBUSY)
	}
	return multi, nil
}

// TapIsMultiqueue says whether the existing tap of that name can have more than
// one queue. Its errors are those that OpenTap would return.
func TapIsMultiqueue(name string) (bool, error) { return checkTap(TapConfig{Name: name}) }

// tunHint says what to do about a device node that cannot be opened.
func tunHint(err *os.PathError) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%w: load the module with \"modprobe tun\"", err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: run as root, or open the node to users with \"chmod 666 /dev/net/tun\"", err)
	}
	return err
}

// tapHint says what to do about a tap that cannot be made or attached to.
func tapHint(name string, made bool, errno error) error {
	err := &os.PathError{Op: "TUNSETIFF", Path: name, Err: errno}
	switch {
	case made && errors.Is(errno, unix.EPERM):
		err.Path = "a new tap"
		return fmt.Errorf("%w: needs CAP_NET_ADMIN; or make a tap once with \"ip tuntap add dev NAME mode tap user $USER vnet_hdr && ip link set NAME up\" and give its name", err)
	case errors.Is(errno, unix.EPERM):
		return fmt.Errorf("%w: it is not this user's; as root, \"ip tuntap add dev %s mode tap user USER vnet_hdr\" changes its owner", err, name)
	case errors.Is(errno, unix.EBUSY):
		return fmt.Errorf("%w: another program has this tap open", err)
	case errors.Is(errno, unix.EINVAL):
		return fmt.Errorf("%w: the tap was made with other flags: it must be a tap (not tun)", err)
	}
	return err
}

// setUp gives a tap made here its properties and brings the link up: vhost
// starts no ring on a link that is down.
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
		return fmt.Errorf("bring the link up: %w: needs CAP_NET_ADMIN, or run \"ip link set %s up\" once", err, t.name)
	}
	return nil
}

// configure gives a tap made here its properties. It takes the MTU of its bridge, or a larger one,
// before it joins: a bridge drops to the smallest MTU of its ports.
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

// addAddress gives a link an address that no other has. The kernel would let
// two have it, and answer for both on either: the later guest is not reached.
func addAddress(link netlink.Link, address netip.Prefix) error {
	addr, err := netlink.ParseAddr(address.String())
	if err != nil {
		return err
	}
	if address.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD // the guest could claim it first (RFC 4862 §5.4)
	}
	taken, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, other := range taken {
		if other.IP.Equal(addr.IP) {
			return fmt.Errorf("%w: %s has it", unix.EADDRINUSE, linkName(other.LinkIndex))
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
		return nil, fmt.Errorf("%w: make it with \"ip link add %s type bridge && ip link set %s up\"", unix.ENODEV, name, name)
	}
	return bridge, err
}

// MTU is what the guest is told: the configuration's, or else the interface's.
func (t *Tap) MTU() int { return t.mtu }

// setOffloads tells the tap what the guest can receive (TUNSETOFFLOAD,
// linux/if_tun.h); no features forbids all. The kernel refuses TSO without
// checksum offload and ECN without TSO, which no driver may negotiate either
// (virtio 1.2 §5.1.3.1): such a bit is left out.
func (t *Tap) setOffloads(f virtio.Features) error {
	if err := unix.IoctlSetInt(t.fds[0], unix.TUNSETOFFLOAD, offloads(f)); err != nil {
		return &os.PathError{Op: "TUNSETOFFLOAD", Path: t.name, Err: err}
	}
	return nil
}

// offloads translates what the guest can receive into the tap's TUN_F_* bits.
// The two USO bits exist only together (drivers/net/tun.c).
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

// hasUSO says whether this kernel's tap can hand UDP segments to a guest
// (Linux 6.2). The tap is left without offloads.
func (t *Tap) hasUSO() bool {
	err := t.setOffloads(FeatureGuestCsum | FeatureGuestUSO4 | FeatureGuestUSO6)
	return err == nil && t.setOffloads(0) == nil
}

// setQueues attaches the first n queues and detaches the others, TUNSETQUEUE: the
// host sends into attached queues only. The first always is. Queues keep their
// order, because the last to come is the first to go (drivers/net/tun.c).
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

// SetFilter keeps frames from the guest that it does not want, TUNSETTXFILTER.
// Only of a tap that was made here: the kernel keeps a filter when the tap is
// let go of, and its next user would not know.
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

// Close removes a tap that was made here and lets go of one that was given.
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
