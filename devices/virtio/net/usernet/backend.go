package usernet

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"minivmm/devices/virtio"
	vnet "minivmm/devices/virtio/net"
	"minivmm/internal/pcap"
)

// Config is what a NIC's network is like.
type Config struct {
	// MTU is the largest IP packet on the wire, 68 to 65535; 0 is 1500.
	MTU int
	// Ports of the host that lead to the guest.
	Ports []Port
	// Network is the named network that the guest is on, beside its gateway; nil
	// is none.
	Network *Network
	// Policy says where the guest may go.
	Policy Policy
	// Capture names a file for what the guest sends and receives (package pcap),
	// up to CaptureSize bytes; "" is none, and 0 is 1 GiB.
	Capture     string
	CaptureSize int64
	// Logf takes one line, without newline, from any goroutine; nil drops it.
	Logf func(format string, args ...any)
	// Allowed says, in place of Policy, which addresses of the outside the guest may reach, for
	// every connection, datagram flow and echo; nil is Policy. It is asked by
	// many goroutines at once.
	Allowed func(netip.Addr) bool
	// ResolvConf names the file with the resolvers that answer for the
	// gateway; "" is /etc/resolv.conf. It is read again when it is needed.
	ResolvConf string
	// ResolverPort is where they listen; 0 is 53.
	ResolverPort uint16

	guest netip.Addr // the address that the guest is given

	// outside, if set, is where a destination really is: a test has no network
	// but the loopback.
	outside func(netip.AddrPort) netip.AddrPort
	// hostHasIPv6, if set, says what a test's host has.
	hostHasIPv6 func() bool
}

// Backend is a [virtio.Backend] for the two queues of a network device.
type Backend struct {
	cfg      Config
	policy   *policy
	refusals *refusals
	lan      *lanPort // nil: none
	capture  *capture // nil: none
	ports    []listener
	live     atomic.Pointer[session] // nil: no driver uses the device
}

var _ virtio.Backend = (*Backend)(nil)

// New binds the published ports; one that is in use is EADDRINUSE. The caller
// closes the Backend.
func New(cfg Config) (*Backend, error) {
	if cfg.MTU == 0 {
		cfg.MTU = 1500
	}
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	policy := newPolicy(cfg.Policy)
	if cfg.Allowed == nil {
		cfg.Allowed = policy.allowed
	}
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	if cfg.ResolverPort == 0 {
		cfg.ResolverPort = dnsPort
	}
	if cfg.outside == nil {
		cfg.outside = func(a netip.AddrPort) netip.AddrPort { return a }
	}
	if cfg.hostHasIPv6 == nil {
		cfg.hostHasIPv6 = hostHasIPv6
	}
	cfg.guest = guestAddr
	b := &Backend{cfg: cfg, policy: policy, refusals: &refusals{logf: cfg.Logf, seen: map[netip.Addr]struct{}{}}}
	for _, p := range cfg.Ports {
		l, err := p.listen()
		if err != nil {
			hint := ""
			switch {
			case errors.Is(err, unix.EADDRINUSE):
				hint = p.holder()
			case errors.Is(err, unix.EACCES):
				hint = p.privileged(firstPort())
			}
			return nil, errors.Join(fmt.Errorf("port %s: %w%s", p, err, hint), b.Close())
		}
		b.ports = append(b.ports, l)
	}
	if cfg.Capture != "" {
		f, err := pcap.Create(cfg.Capture, cmp.Or(cfg.CaptureSize, defaultCapture), cfg.Logf)
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
		b.capture = &capture{f}
	}
	if n := cfg.Network; n != nil {
		var err error
		if b.lan, err = joinLAN(*n, cfg.Logf); err != nil {
			return nil, errors.Join(fmt.Errorf("network %s: %w", n.Name, err), b.Close())
		}
		b.cfg.guest = b.lan.Addr
	}
	return b, nil
}

// Features are offloads both ways, mergeable buffers and what package queue can
// do with a ring.
func (*Backend) Features() virtio.Features {
	return vnet.FeatureCsum | vnet.FeatureGuestCsum | vnet.FeatureGuestTSO4 | vnet.FeatureGuestTSO6 |
		vnet.FeatureHostTSO4 | vnet.FeatureHostTSO6 | vnet.FeatureMrgRxbuf |
		virtio.FeatureRingIndirectDesc | virtio.FeatureRingEventIdx
}

// InKernel is false.
func (*Backend) InKernel() bool { return false }

// Start makes a fresh network for the guest.
func (b *Backend) Start(a virtio.Activation) error {
	if len(a.Queues) != 2 {
		return errors.New("driver enabled only one of receive and transmit queue")
	}
	s, err := newSession(b, a)
	if err != nil {
		return err
	}
	s.publish(b.ports)
	b.live.Store(s)
	if b.lan != nil {
		b.lan.live.Store(s)
	}
	return nil
}

// Stop closes the rings. Every connection has ended, and what served them.
func (b *Backend) Stop() error {
	s := b.live.Swap(nil)
	if s == nil {
		return nil
	}
	if b.lan != nil {
		b.lan.live.Store(nil)
	}
	return s.closeRings()
}

// Close implies Stop and unbinds the published ports.
func (b *Backend) Close() error {
	errs := []error{b.Stop()}
	for _, l := range b.ports {
		errs = append(errs, l.Close())
	}
	b.ports = nil
	if b.lan != nil {
		errs = append(errs, b.lan.Close())
		b.lan = nil
	}
	if b.capture != nil {
		errs = append(errs, b.capture.Close())
		b.capture = nil
	}
	return errors.Join(errs...)
}
