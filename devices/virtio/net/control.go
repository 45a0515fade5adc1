package net

import (
	"encoding/binary"
	"fmt"
	"time"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue"
)

// Classes and commands of the control queue (virtio 1.2 §5.1.6.5; uapi/linux/virtio_net.h).
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

// maxTable is how many addresses of a table are kept. It is one more than a filter in the kernel
// can hold, so that a table that is too long is not mistaken for one that fits.
const maxTable = filterMost + 1

// controller serves the control queue of one activation, in the goroutine of that queue only.
type controller struct {
	device   *Device
	backend  Multiqueue
	pairs    int // enabled by the driver
	used     int // active; 1 until the driver sets it
	features virtio.Features

	mac     [6]byte
	promisc bool
	filter  Filter    // from the address tables and allmulti
	applied tunFilter // the filter that the backend uses now
}

func newController(d *Device, b Multiqueue, pairs int, f virtio.Features) *controller {
	return &controller{device: d, backend: b, pairs: pairs, used: 1, features: f, mac: [6]byte(d.cfg.MAC)}
}

// serve executes one command and writes the answer. A chain without room for the answer is an error
// and breaks the ring. Any other invalid command gets VIRTIO_NET_ERR and changes nothing.
func (c *controller) serve(chain *queue.Chain) (written uint32, err error) {
	if room := chain.Writable.Len(); room < answerSize {
		return 0, fmt.Errorf("%w: control command has no room for the answer", queue.ErrBadRing)
	}
	answer := []byte{answerErr}
	if c.do(&chain.Readable) {
		answer[0] = answerOK
	}
	return uint32(chain.Writable.Write(answer)), nil
}

// do executes a command and reports whether it succeeded.
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
		filter.On = true // from now on, the driver wants only frames that pass its filter
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

// setPairs makes the first n pairs active.
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

// pace limits how often a guest may change its pairs or its filter, because during a change the
// host holds RTNL, the lock for all network interfaces. A reset does not clear it, so a guest
// cannot use resets to get around the limit.
type pace struct {
	spent float64
	at    time.Time
}

const (
	paceBurst = 64 // changes in a burst; a driver makes only a few in its lifetime
	paceRate  = 4  // changes per second after the burst
)

// take reports whether a change is allowed at the time now. If so, it counts the change.
func (p *pace) take(now time.Time) bool {
	p.spent = max(0, p.spent-now.Sub(p.at).Seconds()*paceRate)
	p.at = now
	if p.spent+1 > paceBurst {
		return false
	}
	p.spent++
	return true
}

// exactly copies b into p and reports whether b holds exactly len(p) bytes.
func exactly(b *queue.Buffers, p []byte) bool {
	return b.Read(p) == len(p) && b.Len() == 0
}

// table reads a struct virtio_net_ctrl_mac. It returns the first maxTable addresses, and whether b
// is long enough.
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

// apply passes the filter to the backend and stores it on success. A guest that changes its filter
// too often receives all frames, which is also correct (virtio 1.2 §5.1.6.5.1: filtering is best
// effort). The next filter command that arrives when a change is allowed again ends this.
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
