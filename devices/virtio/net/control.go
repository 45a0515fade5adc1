package net

import (
	"encoding/binary"
	"fmt"
	"time"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue"
)

// Classes and commands of the control queue (virtio 1.2 §5.1.6.5;
// uapi/linux/virtio_net.h).
const (
	classRX       = 0 // VIRTIO_NET_CTRL_RX
	rxPromisc     = 0 // VIRTIO_NET_CTRL_RX_PROMISC
	rxAllMulti    = 1 // VIRTIO_NET_CTRL_RX_ALLMULTI
	classMAC      = 1 // VIRTIO_NET_CTRL_MAC
	macTableSet   = 0 // VIRTIO_NET_CTRL_MAC_TABLE_SET
	macAddrSet    = 1 // VIRTIO_NET_CTRL_MAC_ADDR_SET
	classMQ       = 4 // VIRTIO_NET_CTRL_MQ
	vqPairsSet    = 0 // VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET
	answerOK      = 0 // VIRTIO_NET_OK
	answerErr     = 1 // VIRTIO_NET_ERR
	commandHeader = 2 // class, command
	answerSize    = 1
)

// maxTable is how many addresses of a table are kept: one more than any filter
// of the kernel's holds, so that a long table is not taken for a short one.
const maxTable = filterMost + 1

// controller serves the control queue of one activation. It belongs to the
// goroutine of the queue.
type controller struct {
	device   *Device
	backend  Multiqueue
	pairs    int // that the driver enabled
	used     int // that it has taken into use
	features virtio.Features

	mac     [6]byte
	promisc bool
	filter  Filter    // what the tables and allmulti say
	applied tunFilter // what the backend has
}

func newController(d *Device, b Multiqueue, pairs int, f virtio.Features) *controller {
	return &controller{device: d, backend: b, pairs: pairs, used: 1, features: f, mac: [6]byte(d.cfg.MAC)}
}

// serve answers one command. A chain without room for the answer breaks the
// ring; all else that is wrong is VIRTIO_NET_ERR, and changes nothing.
func (c *controller) serve(chain *queue.Chain) (written uint32, err error) {
	if room := chain.Writable.Len(); room < answerSize {
		return 0, fmt.Errorf("%w: control command without room for an answer", queue.ErrBadRing)
	}
	answer := []byte{answerErr}
	if c.do(&chain.Readable) {
		answer[0] = answerOK
	}
	return uint32(chain.Writable.Write(answer)), nil
}

// do obeys a command and says whether it did.
func (c *controller) do(b *queue.Buffers) bool {
	var head [commandHeader]byte
	if b.Read(head[:]) < commandHeader {
		return false
	}
	class, command := head[0], head[1]
	switch {
	case class == classMQ && command == vqPairsSet && c.features.Has(FeatureMQ):
		var data [2]byte
		if !exactly(b, data[:]) {
			return false
		}
		return c.setPairs(int(binary.LittleEndian.Uint16(data[:])))
	case class == classRX && command <= rxAllMulti && c.features.Has(FeatureCtrlRX):
		var on [1]byte
		if !exactly(b, on[:]) || on[0] > 1 {
			return false
		}
		promisc, filter := c.promisc, c.filter
		if command == rxPromisc {
			promisc = on[0] == 1
		} else {
			filter.AllMulticast = on[0] == 1
		}
		filter.On = true // who says what he wants, wants no more
		return c.apply(c.mac, promisc, filter)
	case class == classMAC && command == macTableSet && c.features.Has(FeatureCtrlRX):
		filter := c.filter
		var ok [2]bool
		filter.Unicast, ok[0] = table(b)
		filter.Multicast, ok[1] = table(b)
		if !ok[0] || !ok[1] || b.Len() != 0 {
			return false
		}
		filter.On = true
		return c.apply(c.mac, c.promisc, filter)
	case class == classMAC && command == macAddrSet && c.features.Has(FeatureCtrlMAC):
		var mac [6]byte
		if !exactly(b, mac[:]) || !c.apply(mac, c.promisc, c.filter) {
			return false
		}
		c.device.setMAC(mac[:])
		return true
	}
	return false
}

// setPairs takes the first n pairs into use.
func (c *controller) setPairs(n int) bool {
	if n < 1 || n > c.pairs {
		return false
	}
	if n == c.used {
		return true
	}
	if !c.device.changes.take(time.Now()) || c.backend.SetPairs(n) != nil {
		return false
	}
	c.used = n
	return true
}

// pace bounds how often a guest changes its pairs or its filter: the host holds the lock of all
// its network interfaces meanwhile. It outlives resets, so that those do not
// help a guest to more.
type pace struct {
	spent float64
	at    time.Time
}

const (
	paceBurst = 64 // changes at once; a driver makes a few a life
	paceRate  = 4  // a second after that
)

// take says whether there may be a change at now.
func (p *pace) take(now time.Time) bool {
	p.spent = max(0, p.spent-now.Sub(p.at).Seconds()*paceRate)
	p.at = now
	if p.spent+1 > paceBurst {
		return false
	}
	p.spent++
	return true
}

// exactly copies all of b, and says whether that fills p.
func exactly(b *queue.Buffers, p []byte) bool {
	return b.Read(p) == len(p) && b.Len() == 0
}

// table takes struct virtio_net_ctrl_mac off b, and keeps maxTable addresses.
func table(b *queue.Buffers) (addresses [][6]byte, ok bool) {
	var head [4]byte
	if b.Read(head[:]) < len(head) {
		return nil, false
	}
	entries := int64(binary.LittleEndian.Uint32(head[:]))
	if 6*entries > int64(b.Len()) {
		return nil, false
	}
	for range min(entries, maxTable) {
		var a [6]byte
		b.Read(a[:])
		addresses = append(addresses, a)
	}
	b.Take(6 * int(entries-int64(len(addresses))))
	return addresses, true
}

// apply hands the filter to the backend and remembers it once it holds. A guest that changes it too
// often gets all frames, which is right too, until it sends a command at a time when there may be
// a change again.
func (c *controller) apply(mac [6]byte, promisc bool, filter Filter) bool {
	effective := Filter{}
	if filter.On && !promisc {
		effective = filter
		effective.Unicast = append([][6]byte{mac}, filter.Unicast...)
	}
	if effective.tun() != c.applied && !c.device.filters.take(time.Now()) {
		effective = Filter{}
	}
	if t := effective.tun(); t != c.applied {
		if err := c.backend.SetFilter(effective); err != nil {
			return false
		}
		c.applied = t
	}
	c.mac, c.promisc, c.filter = mac, promisc, filter
	return true
}
