package usernet

import (
	"context"
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
	vnet "minivmm/devices/virtio/net"
	"minivmm/devices/virtio/queue/queuetest"
	"minivmm/devices/virtio/virtiotest"
)

// The addresses at which a guest reaches the servers of a test.
var (
	outside  = netip.MustParseAddr("192.0.2.1")
	outside6 = netip.MustParseAddr("2001:db8::1")

	// Unreachable addresses: ENETUNREACH.
	nowhere  = netip.MustParseAddr("203.0.113.1")
	nowhere6 = netip.MustParseAddr("2001:db8:bad::1")

	loopback  = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// onLoopback returns the real address of a server of the test.
func onLoopback(a netip.AddrPort) netip.AddrPort {
	switch a.Addr() {
	case outside:
		return netip.AddrPortFrom(loopback, a.Port())
	case outside6:
		return netip.AddrPortFrom(loopback6, a.Port())
	case nowhere:
		return netip.AddrPortFrom(limitedBroadcast, a.Port())
	case nowhere6:
		return netip.AddrPortFrom(allNodes, a.Port())
	}
	return a
}

// theirs returns the address at which the guest reaches a server.
func theirs(a string) netip.AddrPort {
	p := netip.MustParseAddrPort(a)
	if p.Addr().Is6() {
		return netip.AddrPortFrom(outside6, p.Port())
	}
	return netip.AddrPortFrom(outside, p.Port())
}

// guestAddr6 is an address that a guest has configured for itself.
var guestAddr6 = netip.MustParseAddr("fd00:10:0:2::15")

// device returns a NIC on a new backend, with the network device's own features.
func device(t testing.TB, cfg Config) *vnet.Device {
	t.Helper()
	if cfg.outside == nil {
		cfg.outside = onLoopback
	}
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return over(t, b)
}

// over returns a NIC on b.
func over(t testing.TB, b *Backend) *vnet.Device {
	t.Helper()
	dev, err := vnet.New(vnet.Config{MAC: guestMAC, QueueSize: 256}, b)
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

// guest is a second TCP/IP stack behind a driver of the NIC.
type guest struct {
	*stack.Stack
	d    *virtiotest.Driver
	b    *Backend
	addr netip.Addr
	link *channel.Endpoint
	idle sync.Mutex // while held, the guest receives no frames
	stop context.CancelFunc
	done sync.WaitGroup
}

const guestBuffers = 128

// onLink is the guest's own subnet.
var onLink = tcpip.AddressWithPrefix{Address: address(network.Addr()), PrefixLen: network.Bits()}.Subnet()

// boot starts a NIC and a guest that has its addresses.
func boot(t testing.TB, cfg Config, features virtio.Features) *guest {
	t.Helper()
	g := bootWith(t, cfg, features, ipv6.NewProtocol)
	if err := g.AddProtocolAddress(1, tcpip.ProtocolAddress{
		Protocol:          ipv6.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(guestAddr6), PrefixLen: 64},
	}, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	return g
}

// bootWith starts a guest with the IPv6 protocol v6, which determines how it gets its address.
func bootWith(t testing.TB, cfg Config, features virtio.Features, v6 stack.NetworkProtocolFactory) *guest {
	t.Helper()
	cfg.outside = onLoopback
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	mac := tcpip.LinkAddress(guestMAC)
	if cfg.Network != nil {
		mac = tcpip.LinkAddress(cfg.Network.MAC[:])
	}
	g := &guest{d: virtiotest.NewDriver(t, over(t, b)), b: b, addr: b.cfg.guest}
	g.d.Start(features)
	g.link = channel.New(512, 1500+ethBytes, mac)
	g.link.LinkEPCapabilities = stack.CapabilityRXChecksumOffload // incoming frames have partial checksums
	g.Stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, v6, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	for _, err := range []tcpip.Error{
		g.CreateNIC(1, ethernet.New(g.link)),
		g.AddProtocolAddress(1, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(g.addr), PrefixLen: 24}}, stack.AddressProperties{}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	g.SetRouteTable([]tcpip.Route{
		{Destination: onLink, NIC: 1},
		{Destination: header.IPv4EmptySubnet, Gateway: address(gateway), NIC: 1},
		{Destination: header.IPv6EmptySubnet, Gateway: address(gateway6), NIC: 1},
	})
	ctx, cancel := context.WithCancel(context.Background())
	g.stop = cancel
	g.done.Go(func() { g.send(ctx, t) })
	g.done.Go(func() { g.receive(ctx, t) })
	t.Cleanup(g.halt)
	return g
}

// halt resets the device and stops the guest.
func (g *guest) halt() {
	if g.stop == nil {
		return
	}
	g.stop()
	g.stop = nil
	g.done.Wait()
	g.d.Close()
	g.Stack.Destroy()
}

// hold keeps the guest from receiving frames until release is called or the test ends.
func (g *guest) hold(t testing.TB) (release func()) {
	g.idle.Lock()
	release = sync.OnceFunc(g.idle.Unlock)
	t.Cleanup(release)
	return release
}

// send is the driver's transmit side: 4 KiB buffers, one frame at a time.
func (g *guest) send(ctx context.Context, t testing.TB) {
	r := g.d.Rings[1]
	const at = virtiotest.BufferBase + 8<<20
	mem, err := g.d.Memory.Window(at, 128<<10)
	if err != nil {
		t.Error(err)
		return
	}
	for {
		p := g.link.ReadContext(ctx)
		if p == nil {
			return
		}
		frame := p.ToView().AsSlice()
		clear(mem[:hdrBytes])
		n := hdrBytes + copy(mem[hdrBytes:], frame)
		p.DecRef()
		half := n / 2
		r.Add(queuetest.Desc{GPA: at, Len: uint32(half)}, queuetest.Desc{GPA: at + guestmem.GPA(half), Len: uint32(n - half)})
		r.Kick()
		for {
			if _, err := r.WaitUsed(50 * time.Millisecond); err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
		}
	}
}

// receive is the driver's receive side.
func (g *guest) receive(ctx context.Context, t testing.TB) {
	const size = 2048
	r := g.d.Rings[0]
	where := map[uint16]int{}
	base := virtiotest.BufferBase
	mem, err := g.d.Memory.Window(base, guestBuffers*size)
	if err != nil {
		t.Error(err)
		return
	}
	give := func(i int) {
		where[r.Add(queuetest.Desc{GPA: base + guestmem.GPA(i*size), Len: size, Flags: queuetest.Write})] = i
	}
	for i := range guestBuffers {
		give(i)
	}
	r.Kick()
	var frame []byte
	left := 0
	for ctx.Err() == nil {
		g.idle.Lock()
		g.idle.Unlock()
		u, err := r.WaitUsed(50 * time.Millisecond)
		if err != nil {
			continue
		}
		i := where[uint16(u.ID)]
		b := mem[i*size : i*size+int(u.Len)]
		if left == 0 {
			left = 1
			if g.d.Features.Has(vnet.FeatureMrgRxbuf) {
				left = int(binary.LittleEndian.Uint16(b[10:]))
			}
			frame, b = nil, b[hdrBytes:]
		}
		frame = append(frame, b...)
		give(i)
		r.Kick()
		if left--; left == 0 && len(frame) > ethBytes {
			pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
			g.link.InjectInbound(0, pkt)
			pkt.DecRef()
		}
	}
}
