package vmm

import (
	"errors"
	"fmt"
	"path/filepath"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/net"
	"minivmm/devices/virtio/net/usernet"
	"minivmm/devices/virtio/virtiopci"
	"minivmm/internal/userdir"
	"minivmm/vhost"
	"minivmm/vmm/config"
)

// addDevices creates each virtio device with its backend and puts it on the bus.
func (m *VM) addDevices(list []device) error {
	for _, d := range list {
		dev, err := d.make(m)
		if err == nil {
			err = m.insert(d.name, dev)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
	}
	return nil
}

// insert puts a device on the bus. It takes ownership: on error it closes the device.
func (m *VM) insert(name string, bare virtio.Device) error {
	dev, err := reserveFiles(bare)
	if err != nil {
		return errors.Join(err, bare.Close())
	}
	t, err := virtiopci.New(dev, m.mem, m.host, virtiopci.Options{
		Name: name, Logf: m.opt.Logf, NotifyPorts: m.plan.Machine.Notify == config.NotifyPorts,
	})
	if err != nil {
		return errors.Join(err, dev.Close())
	}
	m.closers.push(name, t.Close)
	m.account.fronts = append(m.account.fronts, t.Frontend())
	return t.Insert(m.root)
}

// newNet creates a NIC.
func (m *VM) newNet(cfg *config.Net) (virtio.Device, error) {
	var backend virtio.Backend
	var err error
	mtu := cfg.MTU
	if cfg.Backend == config.NetUser {
		backend, err = m.userNet(cfg)
	} else {
		backend, mtu, err = m.tapNet(cfg)
	}
	if err != nil {
		return nil, err
	}
	device, err := net.New(net.Config{MAC: cfg.MAC[:], MTU: uint16(mtu), QueueSize: uint16(cfg.QueueSize), Pairs: int(cfg.Queues)}, backend)
	if err != nil {
		return nil, errors.Join(err, backend.Close())
	}
	return device, nil
}

// userNet creates a network in this process.
func (m *VM) userNet(cfg *config.Net) (virtio.Backend, error) {
	user := usernet.Config{
		MTU:     cfg.MTU,
		Policy:  usernet.Policy{Allow: rules(cfg.Allow), Deny: rules(cfg.Deny), Isolated: cfg.Network == config.Isolated, Names: names[cfg.DNS]},
		Capture: string(cfg.Pcap), CaptureSize: int64(cfg.PcapSize),
		Logf: func(format string, args ...any) { m.opt.Logf("%s: "+format, append([]any{cfg.ID}, args...)...) },
	}
	for _, p := range cfg.Ports {
		for p := range p.Each() {
			user.Ports = append(user.Ports, usernet.Port{UDP: p.UDP, Host: p.Host, To: p.Guest})
		}
	}
	if cfg.Network != "" && cfg.Network != config.Isolated {
		dir, err := userdir.Make(userdir.Runtime())
		if err != nil {
			return nil, fmt.Errorf("cannot create a directory for the network's sockets: %w", err)
		}
		user.Network = &usernet.Network{
			Name: string(cfg.Network), Dir: filepath.Join(dir, "networks", string(cfg.Network)),
			Station: string(m.plan.Name), MAC: cfg.MAC,
		}
	}
	backend, err := usernet.New(user)
	if err != nil {
		return nil, err // not backend: a nil pointer in an interface is not nil
	}
	m.account.nets = append(m.account.nets, inProcessNet{string(cfg.ID), backend})
	return backend, nil
}

var names = map[config.DNS]usernet.Names{config.DNSOn: usernet.AllNames, config.DNSOff: usernet.NoNames}

func rules(list []config.Destination) (out []usernet.Rule) {
	for _, d := range list {
		out = append(out, usernet.Rule{Prefix: d.Prefix, Host: d.Host})
	}
	return out
}

// tapNet creates a backend that moves frames between a tap and the guest in the kernel, with
// vhost-net. It also returns the MTU for the guest.
func (m *VM) tapNet(cfg *config.Net) (virtio.Backend, int, error) {
	tap, err := net.OpenTap(net.TapConfig{
		Name: string(cfg.Tap), NewName: "mvm%d", Queues: int(cfg.Queues),
		Address: cfg.Address.Prefix, Bridge: string(cfg.Bridge), MTU: cfg.MTU,
	})
	if err != nil {
		return nil, 0, err
	}
	backend, err := m.vhostNet(cfg, tap)
	if err != nil {
		return nil, 0, errors.Join(err, tap.Close())
	}
	return backend, tap.MTU(), nil
}

// vhostNet creates a vhost device, and with it a worker, for each queue pair. On error the caller
// still owns the tap.
func (m *VM) vhostNet(cfg *config.Net, tap *net.Tap) (_ virtio.Backend, err error) {
	var devs []*vhost.Net
	defer func() {
		if err != nil {
			for _, dev := range devs {
				err = errors.Join(err, dev.Close())
			}
		}
	}()
	place := m.placement(string(cfg.ID), cfg.Affinity)
	place.nic, place.rings, place.busyPoll = true, 2*int(cfg.Queues), cfg.BusyPoll.Duration
	for k := range int(cfg.Queues) {
		dev, err := vhost.OpenNet()
		if err != nil {
			return nil, err
		}
		devs = append(devs, dev)
		if err := m.own(dev.Device, place, []int{2 * k, 2*k + 1}); err != nil {
			return nil, err
		}
	}
	return net.NewVhost(string(cfg.ID), devs, tap)
}
