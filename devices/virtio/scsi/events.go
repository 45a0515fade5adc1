package scsi

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	"minivmm/devices/virtio/queue"
)

// Events (virtio 1.2 §5.6.6.3).
const (
	eventParamChange = 3           // VIRTIO_SCSI_T_PARAM_CHANGE
	capacityChanged  = 0x2a | 9<<8 // the event's reason: additional sense code and qualifier
)

// events serves the event queue. The driver puts buffers into the queue, and each buffer receives
// one event. The device ignores the driver's kicks: an event without a buffer waits until changed
// is called again. An event only makes the driver read the unit's size again. One pending event for
// each unit is therefore enough, and no change is lost.
type events struct {
	mu    sync.Mutex
	q     *queue.Queue // nil: closed, or the driver did not negotiate FeatureChange
	units []uint16     // changed units that the driver has not been notified of
}

// changed notifies the driver of units whose capacity has changed.
func (e *events) changed(units ...uint16) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.q == nil {
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
		// The LUN is encoded as in REPORT LUNS, without the flat addressing bit: Linux uses it
		// unmodified (virtscsi_handle_param_change).
		binary.BigEndian.PutUint16(p[6:], e.units[0])
		binary.LittleEndian.PutUint32(p[12:], capacityChanged)
		if room := c.Writable.Len(); room < len(p) {
			return badChain("event buffer", room, len(p))
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

// Rescan checks whether the sizes of the disks have changed, notifies the guest and returns the
// logical units whose size has changed. It is safe for concurrent use.
func (b *InProcess) Rescan() (changed []uint16, err error) {
	changed, err = b.target.Rescan()
	if act := b.active.Load(); act != nil {
		act.resized(changed)
	}
	return changed, err
}

// SizeBytes returns the size of a logical unit as the guest sees it.
func (b *InProcess) SizeBytes(lun uint16) uint64 { return b.target.SizeBytes(lun) }

// resized notifies the driver. If the event ring is broken, resized closes the event queue and
// reports the activation as failed.
func (a *activation) resized(units []uint16) {
	if err := a.events.changed(units...); err != nil {
		a.Failed(errors.Join(err, a.events.close()))
	}
}

// scanEvery is the interval between two size checks while a disk is in use.
const scanEvery = time.Second

// used schedules one check of the disks' sizes after scanEvery, unless one is already scheduled.
// The timer runs only while there are requests: an idle guest has none.
func (a *activation) used() {
	if a.scanning.Load() || !a.scanning.CompareAndSwap(false, true) {
		return
	}
	a.Go(func(ctx context.Context) error {
		defer a.scanning.Store(false)
		select {
		case <-time.After(scanEvery):
			// If the size of a store cannot be read, its requests report the error.
			changed, _ := a.target.Rescan()
			a.resized(changed)
		case <-ctx.Done():
		}
		return nil
	})
}
