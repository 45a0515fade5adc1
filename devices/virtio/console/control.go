package console

import (
	"context"
	"encoding/binary"
	"sync"

	"minivmm/devices/virtio/queue"
)

// Events of the control channel that the device supports (uapi/linux/virtio_console.h).
const (
	deviceReady = 0 // VIRTIO_CONSOLE_DEVICE_READY
	portAdd     = 1 // VIRTIO_CONSOLE_PORT_ADD, the specification's DEVICE_ADD
	portReady   = 3 // VIRTIO_CONSOLE_PORT_READY
	portOpen    = 6 // VIRTIO_CONSOLE_PORT_OPEN
	portName    = 7 // VIRTIO_CONSOLE_PORT_NAME
)

// message is struct virtio_console_control: le32 id, le16 event, le16 value. A name may follow the
// struct.
type message struct {
	id           uint32
	event, value uint16
}

const messageSize = 8

func (m message) bytes(name string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, m.id)
	b = binary.LittleEndian.AppendUint16(b, m.event)
	b = binary.LittleEndian.AppendUint16(b, m.value)
	return append(b, name...)
}

// control is the control channel (virtio 1.2 §5.3.6.2) of one activation. A message from the driver
// only marks the answers that are due; take creates the answers.
type control struct {
	wake chan struct{} // one slot: filled when a message may be due

	mu    sync.Mutex
	links []link
}

// link is the state of one port, as driver and device have announced it to each other.
type link struct {
	port *port

	added   bool          // the device has announced the port or is about to
	ready   bool          // the driver has set up the port
	open    bool          // a program in the guest has the port open
	changed chan struct{} // one slot: filled when the field open changes

	// Messages that the device must send: dueAdd says that the port exists, dueOpen whether the
	// port's host side is connected, and dueName the port's name. The field told holds the
	// connection state that was sent last.
	dueAdd, dueOpen, dueName bool
	told                     bool
}

func newControl(ports []*port, wake chan struct{}) *control {
	c := &control{wake: wake}
	for _, p := range ports {
		c.links = append(c.links, link{port: p, changed: make(chan struct{}, 1)})
	}
	return c
}

// handle processes a message from the driver. It ignores a message that is too short, has an
// unknown event or names a port that was not added. It also ignores a driver's report that setup
// failed (value 0).
func (c *control) handle(b []byte) {
	if len(b) < messageSize {
		return
	}
	m := message{binary.LittleEndian.Uint32(b[0:]), binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint16(b[6:])}
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.event == deviceReady && m.value == 1 {
		for i := range c.links {
			l := &c.links[i]
			l.dueAdd, l.added = l.dueAdd || !l.added, true // announce each port once
		}
	}
	if i := int64(m.id) - 1; i >= 0 && i < int64(len(c.links)) && c.links[i].added {
		c.links[i].handle(m)
	}
	post(c.wake)
}

func (l *link) handle(m message) {
	switch {
	case m.event == portReady && m.value == 1:
		l.ready, l.dueOpen, l.dueName = true, true, true
	case m.event == portOpen && m.value <= 1:
		l.open = m.value == 1
		post(l.changed)
	}
}

// take returns the next message that is due. The name comes last, so that the port is usable as
// soon as a program finds it by its name.
func (c *control) take() (b []byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.links {
		l := &c.links[i]
		id := uint32(i + 1)
		here := !l.port.gone.Load()
		switch {
		case l.dueAdd:
			l.dueAdd = false
			return message{id, portAdd, 1}.bytes(""), true
		case l.ready && (l.dueOpen || l.told != here):
			l.dueOpen, l.told = false, here
			m := message{id: id, event: portOpen}
			if here {
				m.value = 1
			}
			return m.bytes(""), true
		case l.dueName:
			l.dueName = false
			return message{id, portName, 1}.bytes(l.port.name), true
		}
	}
	return nil, false
}

// gate waits until the guest has opened port n.
func (c *control) gate(ctx context.Context, n int) error {
	l := &c.links[n]
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		c.mu.Lock()
		open := l.open
		c.mu.Unlock()
		if open {
			return nil
		}
		select {
		case <-l.changed:
		case <-ctx.Done():
		}
	}
}

// receive serves the queue of messages from the driver. It never waits for the queue of answers,
// because Linux spins until the device has consumed the driver's message.
func (c *control) receive(ctx context.Context, q *queue.Queue) error {
	return q.Serve(ctx, func(chain *queue.Chain) (uint32, error) {
		var b [messageSize]byte
		c.handle(b[:chain.Readable.Read(b[:])])
		return 0, nil
	})
}

// send serves the queue of messages from the device. A buffer that is too small for the next
// message is returned empty.
func (c *control) send(ctx context.Context, q *queue.Queue) error {
	var chain queue.Chain
	for {
		b, ok := c.take()
		if !ok {
			if err := q.Signal(); err != nil {
				return err
			}
			select {
			case <-c.wake:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		for sent := false; !sent; {
			if err := q.Await(ctx, &chain); err != nil {
				return err
			}
			written := 0
			if sent = chain.Writable.Len() >= len(b); sent {
				written = chain.Writable.Write(b)
			}
			if err := q.Done(&chain, uint32(written)); err != nil {
				return err
			}
		}
	}
}
