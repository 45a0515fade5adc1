package vhost

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Rings of a Net.
const (
	NetRX = 0
	NetTX = 1
)

// netVirtioNetHdr is VHOST_NET_F_VIRTIO_NET_HDR. VIRTIO_F_ANY_LAYOUT, a feature of the guest, has
// the same bit. If Start passed the guest's bit to vhost, vhost would no longer expect headers from
// the tap, and offloads would break without an error.
const netVirtioNetHdr = 1 << 27

// Net is an open /dev/vhost-net: a pair of rings that the kernel connects to a tap.
type Net struct{ *Device }

// OpenNet opens /dev/vhost-net. The caller must call Close.
func OpenNet() (*Net, error) {
	d, err := Open(NetPath)
	if err != nil {
		return nil, err
	}
	return &Net{d}, nil
}

// setBackend connects a ring to a tap with IFF_NO_PI and IFF_VNET_HDR (VHOST_NET_SET_BACKEND). If
// tapFD is -1, setBackend disconnects the ring and waits until the ring's requests are completed.
// It must be called after all other settings of the ring are made. It returns ENOTSOCK for an
// unsuitable descriptor. It returns EFAULT if there is no memory table or the ring is not in user
// space.
func (n *Net) setBackend(index uint32, tapFD int) error {
	return setVring(n.Device, netSetBackend, index, &vringFile{index: index, fd: int32(tapFD)})
}

// Start connects the rings NetRX and NetTX to the tap. SetOwner must be called first. The tap's
// interface should be up. The tap's header length must be 12 if VERSION_1 or MRG_RXBUF is
// negotiated, else 10. On error nothing is connected.
func (n *Net) Start(s Setup, tapFD int) error {
	if s.Features&netVirtioNetHdr != 0 {
		return fmt.Errorf("feature bit 27 means that the tap has no headers: %w", setFeatures.Error(NetPath, unix.EINVAL))
	}
	if err := n.setup(s); err != nil {
		return err
	}
	if err := n.setKicks(s.Vrings); err != nil {
		return err
	}
	for _, index := range []uint32{NetRX, NetTX} {
		if err := n.setBackend(index, tapFD); err != nil {
			return errors.Join(err, n.Stop())
		}
	}
	return nil
}

// Stop disconnects both rings. After Stop returns, the kernel no longer accesses the rings.
func (n *Net) Stop() error {
	return errors.Join(n.setBackend(NetRX, -1), n.setBackend(NetTX, -1))
}
