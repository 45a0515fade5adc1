package usernet

import (
	"errors"
	"fmt"
	"net/netip"

	"minivmm/devices/virtio"
	vnet "minivmm/devices/virtio/net"
)

// Config is what a NIC's network is like.
type Config struct {
	// MTU is the largest IP packet on the wire, 68 to 65535; 0 is 1500.
	MTU int
	// Ports of the host that lead to the guest.
	Ports []Port
	// Allowed says which addresses of the outside the guest may reach, for
	// every connection, datagram flow and echo; nil is [Public]. It is asked
	// by many goroutines at once.
	Allowed func(netip.Addr) bool
	// ResolvConf names the file with the resolvers that answer for the
	// gateway; "" is /etc/resolv.conf. It is read again when it is needed.
	ResolvConf string
	// ResolverPort is where they listen; 0 is 53.
	ResolverPort uint16

	// outside, if set, is where a destination really is: a test has no network
	// but the loopback.
	outside func(netip.AddrPort) netip.AddrPort
	// hostHasIPv6, if set, says what a test's host has.
	hostHasIPv6 func() bool
}

// Backend is a [virtio.Backend] for the two queues of a network device.
type Backend struct {
	cfg   Config
	ports []listener
	live  *session
}

var _ virtio.Backend = (*Backend)(nil)

// New binds the published ports; one that is in use is EADDRINUSE. The caller
// closes the Backend.
func New(cfg Config) (*Backend, error) {
	if cfg.MTU == 0 {
		cfg.MTU = 1500
	}
	if cfg.Allowed == nil {
		cfg.Allowed = Public
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
	b := &Backend{cfg: cfg}
	for _, p := range cfg.Ports {
		l, err := p.listen()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("port %s: %w", p, err), b.Close())
		}
		b.ports = append(b.ports, l)
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

// Start makes a fresh network for the guest.
func (b *Backend) Start(a virtio.Activation) error {
	if len(a.Queues) != 2 {
		return errors.New("driver enabled only one of receive and transmit queue")
	}
	s, err := newSession(b.cfg, a)
	if err != nil {
		return err
	}
	s.publish(b.ports)
	b.live = s
	return nil
}

// Stop ends every connection and waits for what served them.
func (b *Backend) Stop() error {
	if b.live == nil {
		return nil
	}
	s := b.live
	b.live = nil
	return s.stop()
}

// Close implies Stop and unbinds the published ports.
func (b *Backend) Close() error {
	errs := []error{b.Stop()}
	for _, l := range b.ports {
		errs = append(errs, l.Close())
	}
	b.ports = nil
	return errors.Join(errs...)
}
