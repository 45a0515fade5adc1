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
	"minivmm/internal/lan"
	"minivmm/internal/pcap"
)

// Config configures a NIC's network.
type Config struct {
	// MTU is the largest IP packet on the wire, 68 to 65535; 0 means 1500.
	MTU int
	// Ports are the host's ports that are forwarded to the guest.
	Ports []Port
	// Network is a named network that the guest joins. The guest also keeps its gateway. nil means
	// no named network.
	Network *Network
	// Policy defines which destinations the guest may reach.
	Policy Policy
	// Capture names a file for the frames that the guest sends and receives (package pcap), limited
	// to CaptureSize bytes. "" means no capture; a CaptureSize of 0 means 1 GiB. A large segment
	// appears as one packet, as in the guest, but with a complete checksum.
	Capture     string
	CaptureSize int64
	// Logf logs one line without newline. Any goroutine may call it. nil discards the lines.
	Logf func(format string, args ...any)

	guest netip.Addr // the guest's address

	// For tests, which have no network except the loopback.
	resolvConf   string                              // "" means /etc/resolv.conf
	resolverPort uint16                              // 0 means 53
	outside      func(netip.AddrPort) netip.AddrPort // maps a destination to its real address
	hostHasIPv6  func() bool                         // nil means the function hostHasIPv6
}

// Backend is a [virtio.Backend] for the two queues of a network device.
type Backend struct {
	shared
	ports []listener
	live  atomic.Pointer[session] // nil: no driver uses the device
}

// shared is the state that remains when the guest's driver resets the device.
type shared struct {
	cfg      Config
	policy   *policy
	refusals *refusals
	lan      *lan.Station // nil: none
	capture  *pcap.File   // nil: none
}

var _ virtio.Backend = (*Backend)(nil)

// New binds the published ports. It returns EADDRINUSE if one of the ports is in use. The caller
// must close the Backend.
func New(cfg Config) (*Backend, error) {
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	if cfg.outside == nil {
		cfg.outside = func(a netip.AddrPort) netip.AddrPort { return a }
	}
	if cfg.hostHasIPv6 == nil {
		cfg.hostHasIPv6 = hostHasIPv6
	}
	cfg.MTU = cmp.Or(cfg.MTU, 1500)
	cfg.resolvConf = cmp.Or(cfg.resolvConf, "/etc/resolv.conf")
	cfg.resolverPort = cmp.Or(cfg.resolverPort, dnsPort)
	cfg.guest = guestAddr
	refusals := &refusals{logf: cfg.Logf, seen: map[netip.Addr]struct{}{}}
	b := &Backend{shared: shared{cfg: cfg, policy: newPolicy(cfg.Policy), refusals: refusals}}
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
		var err error
		if b.capture, err = pcap.Create(cfg.Capture, cmp.Or(cfg.CaptureSize, 1<<30), cfg.Logf); err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	if n := cfg.Network; n != nil {
		var err error
		if b.lan, err = b.joinLAN(n); err != nil {
			return nil, errors.Join(fmt.Errorf("network %s: %w", n.Name, err), b.Close())
		}
		b.cfg.guest = b.lan.Addr
	}
	return b, nil
}

// Features returns the features for offloads in both directions, for mergeable buffers, and for the
// ring formats that package queue supports.
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
	return nil
}

// Stop closes the rings. All connections and their goroutines have ended before Stop is called.
func (b *Backend) Stop() error {
	if s := b.live.Swap(nil); s != nil {
		return s.closeRings()
	}
	return nil
}

// Close calls Stop and unbinds the published ports.
func (b *Backend) Close() error {
	errs := []error{b.Stop()}
	for _, l := range b.ports {
		errs = append(errs, l.socket.Close())
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

// Counters describe the network's current load and its traffic since the guest's driver started the
// device. No segment is lost between the stack and the guest while the backlog for the guest has
// room. Therefore SentAgain increases when the guest stops reading for a while or drops segments.
type Counters struct {
	Connections int    // TCP connections from either side, up to 512
	Flows       int    // datagram flows, up to 512
	Segments    uint64 // TCP segments sent to the guest, each up to 64 KiB
	SentAgain   uint64 // retransmitted segments: the guest did not acknowledge them in time
}

// Counters returns zeros while no driver uses the device. It is safe for concurrent use.
func (b *Backend) Counters() Counters {
	s := b.live.Load()
	if s == nil {
		return Counters{}
	}
	tcp := s.stack.Stats().TCP
	return Counters{
		Connections: int(s.out.Load() + s.in.Load()), Flows: s.flows.count(),
		Segments: tcp.SegmentsSent.Value(), SentAgain: tcp.Retransmits.Value(),
	}
}
