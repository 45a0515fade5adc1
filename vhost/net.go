package vhost

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Rings of a Net.
const (
	NetRX = 0
	NetTX = 1
)

// netVirtioNetHdr is VHOST_NET_F_VIRTIO_NET_HDR. The bit is also
// VIRTIO_F_ANY_LAYOUT: if a guest's answer brings it in here, vhost stops
// expecting headers from the tap, and offloads break without a word.
const netVirtioNetHdr = 1 << 27

// Net is /dev/vhost-net: a pair of rings that the kernel connects to a tap.
type Net struct{ *Device }

// OpenNet opens /dev/vhost-net. The caller closes it.
func OpenNet() (*Net, error) {
	d, err := Open(NetPath)
	if err != nil {
		return nil, err
	}
	return &Net{d}, nil
}

// setBackend connects a ring to a tap that has IFF_NO_PI and IFF_VNET_HDR, or
// with tapFD -1 disconnects it and waits for its requests,
// VHOST_NET_SET_BACKEND. After all else about the ring. ENOTSOCK for any
// descriptor that does not suit; EFAULT without a memory table or with a ring
// outside of user space.
func (n *Net) setBackend(index uint32, tapFD int) error {
	return n.vring(index, ioctlPtr(n.Device, netSetBackend, &vringFile{index: index, fd: int32(tapFD)}))
}

// Start serves the rings NetRX and NetTX from tapFD. SetOwner comes first. The
// interface should be up; the tap's header length is 12 if VERSION_1 or
// MRG_RXBUF is negotiated, else 10. On an error nothing is connected.
func (n *Net) Start(s Setup, tapFD int) error {
	if s.Features&netVirtioNetHdr != 0 {
		err := &os.PathError{Op: requests[setFeatures].name, Path: NetPath, Err: unix.EINVAL}
		return fmt.Errorf("feature bit 27 means that the tap has no headers: %w", err)
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

// Stop disconnects both rings. On return the kernel does not touch them.
// GetVringBase then says where they stopped.
func (n *Net) Stop() error {
	return errors.Join(n.setBackend(NetRX, -1), n.setBackend(NetTX, -1))
}
