package scsi

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue"
)

// FeatureChange is VIRTIO_SCSI_F_CHANGE: the device sends an event when a logical
// unit has changed.
const FeatureChange virtio.Features = 1 << 2

// Of events (virtio 1.2 §5.6.6.3).
const (
	eventParamChange = 3           // VIRTIO_SCSI_T_PARAM_CHANGE
	capacityChanged  = 0x2a | 9<<8 // its reason: additional sense code and qualifier
)

// events is the event queue: the driver leaves buffers there, and each takes one
// event. Nobody listens to its kicks. What finds no buffer waits for the next
// call: the events here say that something is to be looked at, so one for each
// unit is enough, and none is lost.
type events struct {
	mu     sync.Mutex
	q      *queue.Queue // nil: closed
	wanted bool         // the driver negotiated FeatureChange
	units  []uint16     // that have changed, and the driver does not know
}

// changed tells the driver of units whose capacity has changed.
func (e *events) changed(units ...uint16) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.q == nil || !e.wanted {
		return nil
	}
	for _, lun := range units {
		if !slices.Contains(e.units, lun) {
			e.units = append(e.units, lun)
		}
	}
	for len(e.units) > 0 {
		var c queue.Chain
		ok, err := e.q.Next(&c)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		var p [eventBytes]byte
		binary.LittleEndian.PutUint32(p[0:], eventParamChange)
		p[4] = 1 // target 0
		// As in REPORT LUNS, without the bit of flat addressing: Linux takes
		// the number as it is (virtscsi_handle_param_change).
		binary.BigEndian.PutUint16(p[6:], e.units[0])
		binary.LittleEndian.PutUint32(p[12:], capacityChanged)
		if room := c.Writable.Len(); room < len(p) {
			return badChain("room for an event", room, len(p))
		}
		if err := e.q.Done(&c, uint32(c.Writable.Write(p[:]))); err != nil {
			return err
		}
		e.units = e.units[1:]
	}
	return e.q.Signal()
}

func (e *events) open(q *queue.Queue) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.q = q
}

func (e *events) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.q == nil {
		return nil
	}
	q := e.q
	e.q = nil
	return q.Close()
}

// Rescan looks whether the disks' sizes have changed, tells the guest, and
// returns the logical units where they have. Any goroutine may call it.
func (b *InProcess) Rescan() (changed []uint16, err error) {
	changed, err = b.target.Rescan()
	b.mu.Lock()
	act := b.active
	b.mu.Unlock()
	if act != nil {
		act.resized(changed)
	}
	return changed, err
}

// SizeBytes is the size of a logical unit as the guest learns it.
func (b *InProcess) SizeBytes(lun uint16) uint64 { return b.target.SizeBytes(lun) }

// resized tells the driver, and is its last event if the ring is broken.
func (a *activation) resized(units []uint16) {
	if err := a.events.changed(units...); err != nil {
		a.Failed(errors.Join(err, a.events.close()))
	}
}

// scanEvery is how long a disk that is used goes without a look at its size.
const scanEvery = time.Second

// used has the disks' sizes looked at in a while, once: a timer while there are
// requests, and none for a guest that is idle.
func (a *activation) used() {
	if a.scanning.Load() || !a.scanning.CompareAndSwap(false, true) {
		return
	}
	a.Go(func(ctx context.Context) error {
		defer a.scanning.Store(false)
		select {
		case <-time.After(scanEvery):
			// A store that cannot say its size says so in its requests.
			changed, _ := a.target.Rescan()
			a.resized(changed)
		case <-ctx.Done():
		}
		return nil
	})
}
