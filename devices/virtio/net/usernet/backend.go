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

// Config configures a NIC's network.
type Config struct {
	// MTU is the largest IP packet on the wire, 68 to 65535; 0 means 1500.
	MTU int
	// Ports are the host's ports that are forwarded to the guest.
	Ports []Port
	// Network is the named network of the guest, in addition to its gateway; nil means none.
	Network *Network
	// Policy defines which destinations the guest may reach.
	Policy Policy
	// Capture names a file for the frames that the guest sends and receives (package pcap),
	// limited to CaptureSize bytes. "" means no capture; a CaptureSize of 0 means 1 GiB.
	Capture     string
	CaptureSize int64
	// Logf logs one line without newline. It is called by any goroutine. nil discards the lines.
	Logf func(format string, args ...any)
	// Allowed replaces Policy, if set: it reports whether the guest may reach an address, for
	// every connection, datagram flow and echo. It must be safe for concurrent use.
	Allowed func(netip.Addr) bool
	// ResolvConf names the file that lists the resolvers; "" means /etc/resolv.conf. It is read
	// again each time it is needed.
	ResolvConf string
	// ResolverPort is the port of the resolvers; 0 means 53.
	ResolverPort uint16

	guest netip.Addr // the guest's address

	// outside, if set, maps a destination to its real address: a test has no network except the
	// loopback.
	outside func(netip.AddrPort) netip.AddrPort
	// hostHasIPv6, if set, replaces the check of the host's addresses in tests.
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

// New binds the published ports. The error for a port in use is EADDRINUSE. The caller must close
// the Backend.
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

// Features returns offloads in both directions, mergeable buffers, and the ring features of package
// queue.
func (*Backend) Features() virtio.Features {
	return vnet.FeatureCsum | vnet.FeatureGuestCsum | vnet.FeatureGuestTSO4 | vnet.FeatureGuestTSO6 |
		vnet.FeatureHostTSO4 | vnet.FeatureHostTSO6 | vnet.FeatureMrgRxbuf |
		virtio.FeatureRingIndirectDesc | virtio.FeatureRingEventIdx
}

// InKernel returns false.
func (*Backend) InKernel() bool { return false }

// Start creates a new network stack for the guest.
func (b *Backend) Start(a virtio.Activation) error {
	if len(a.Queues) != 2 {
		return errors.New("driver enabled only one of the receive and transmit queues")
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

// Stop closes the rings. All connections and their goroutines have ended by then.
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

// Close calls Stop and unbinds the published ports.
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
