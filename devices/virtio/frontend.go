package virtio

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"minivmm/devices/guestmem"
	"minivmm/internal/task"
)

// MaxQueueSize is the largest split ring (virtio 1.2 §2.7).
const MaxQueueSize = 32768

// Options are what a Frontend needs beside its device.
type Options struct {
	// Name is the device's name in notifiers, errors and log lines: "net0".
	Name string
	// Logf takes one line, without newline; nil drops it. Any goroutine may
	// call it. What a guest can cause is limited to a few lines a minute.
	Logf func(format string, args ...any)
	// OnConfig raises the configuration change interrupt; nil drops it. Any
	// goroutine may call it, also while a write to the status register
	// waits for that goroutine: it must only post.
	OnConfig func()
}

// Frontend is the device side of virtio's initialization and of its registers
// (virtio 1.2 §2.1, §3.1, §4.1.4.3), the same under every transport. It is a
// guest's only way to a Device's lifecycle.
//
// All methods may be called by any vCPU at any time.
type Frontend struct {
	dev     Device
	mem     *guestmem.Memory
	name    string
	id      DeviceID
	bells   []bells // by queue
	offered Features
	config  func()
	log     logLimit

	// live is the activation that DRIVER_OK began, nil before it and again
	// once a reset begins. It is read without mu by those who post.
	live       atomic.Pointer[activation]
	dead       atomic.Pointer[error] // see Fail
	generation atomic.Uint32

	mu            sync.Mutex  // guards what follows; held during Activate and Reset
	last          *activation // nil once its goroutines have ended
	status        Status      // as the driver set it: without NEEDS_RESET
	deviceSelect  uint32
	driverSelect  uint32
	driver        Features
	queueSelect   uint16
	queues        []queueState
	broken        bool // the last Device.Reset failed
	closed        bool
	closeProblems error
}

// bells are one queue's notifiers.
type bells struct{ kick, call *Notifier }

// queueState is one queue's registers.
type queueState struct {
	max, size uint16
	enabled   bool
	desc      guestmem.GPA
	driver    guestmem.GPA
	device    guestmem.GPA
	signalled uint64 // what Call's Signals was at the last reset
}

// activation is one life of the data path, from DRIVER_OK to reset.
type activation struct {
	tasks  *task.Group
	failed atomic.Bool
}

// ringFeatures are the bits that belong to the rings and to negotiation, not to
// the device type (virtio 1.2 §2.2: 24 to 49). Of them only rings offers are
// passed on, whatever a device or its backend says.
const (
	ringFeatures Features = 1<<50 - 1<<24
	rings                 = FeatureRingIndirectDesc | FeatureRingEventIdx
)

// NewFrontend makes the frontend of dev over mem, with a Kick and a Call
// Notifier for each queue ("net0-kick-1"). From then on dev belongs to the
// Frontend, whose Close closes it; after an error it is still the caller's.
func NewFrontend(dev Device, mem *guestmem.Memory, opts Options) (*Frontend, error) {
	sizes := dev.QueueSizes()
	if len(sizes) > 1024 {
		return nil, fmt.Errorf("%s: %d queues: at most 1024", opts.Name, len(sizes))
	}
	f := &Frontend{
		dev:     dev,
		mem:     mem,
		name:    opts.Name,
		id:      dev.ID(),
		offered: dev.Features()&(^ringFeatures|rings) | FeatureVersion1,
		config:  opts.OnConfig,
		log:     logLimit{logf: opts.Logf},
	}
	if f.config == nil {
		f.config = func() {}
	}
	for i, max := range sizes {
		var b bells
		var err error
		if max == 0 || max&(max-1) != 0 || max > MaxQueueSize {
			err = fmt.Errorf("%s: queue %d: maximum size %d: not a power of two up to %d", f.name, i, max, MaxQueueSize)
		}
		if err == nil {
			b.kick, err = NewNotifier(fmt.Sprintf("%s-kick-%d", f.name, i))
		}
		if err == nil {
			b.call, err = NewNotifier(fmt.Sprintf("%s-call-%d", f.name, i))
		}
		f.bells = append(f.bells, b)
		f.queues = append(f.queues, queueState{max: max, size: max})
		if err != nil {
			f.closeNotifiers()
			return nil, err
		}
	}
	return f, nil
}

// Name is the name that Options gave.
func (f *Frontend) Name() string { return f.name }

// ID is the device's type.
func (f *Frontend) ID() DeviceID { return f.id }

// NumQueues is the number of queues; it never changes.
func (f *Frontend) NumQueues() int { return len(f.bells) }

// Kick and Call return the notifiers of queue i, which are the same for the
// Frontend's life and are closed by its Close.
func (f *Frontend) Kick(i int) *Notifier { return f.bells[i].kick }

// Call is described at [Frontend.Kick].
func (f *Frontend) Call(i int) *Notifier { return f.bells[i].call }

// Logf writes a line about what the guest did, prefixed by the device's name
// and limited to a few lines a minute.
func (f *Frontend) Logf(format string, args ...any) {
	f.log.printf(f.name+": "+format, args...)
}

// ReadConfig fills p from the device-specific configuration (virtio 1.2
// §2.5); what the device leaves out reads as zero.
func (f *Frontend) ReadConfig(p []byte, off uint32) {
	clear(p)
	f.dev.ReadConfig(p, off)
}

// WriteConfig passes a write to the device-specific configuration on.
func (f *Frontend) WriteConfig(p []byte, off uint32) { f.dev.WriteConfig(p, off) }

// activate is the step to DRIVER_OK: the queues move into the device. When it
// cannot take them, the status shows DEVICE_NEEDS_RESET at once. f.mu is held.
func (f *Frontend) activate() bool {
	a := &activation{}
	a.tasks = task.New(func(err error) { f.failed(a, err) })
	f.last = a
	f.live.Store(a)
	queues, err := f.rings()
	if dead := f.dead.Load(); err == nil && dead != nil {
		err = *dead
	}
	if err == nil {
		err = f.dev.Activate(Activation{
			Memory:        f.mem,
			Features:      f.driver,
			Queues:        queues,
			ConfigChanged: func() { f.configChanged(a) },
			Failed:        a.tasks.Fail,
			Go:            a.tasks.Go,
		})
		if err != nil {
			err = errors.Join(err, a.tasks.Stop(), f.dev.Reset())
		}
	}
	if err != nil {
		f.failed(a, fmt.Errorf("activate: %w", err))
	}
	return true
}

// configChanged only posts: see Activation.
func (f *Frontend) configChanged(a *activation) {
	f.generation.Add(1)
	if f.live.Load() == a {
		f.config()
	}
}

// failed only posts: see Activation. An activation that a reset has ended
// reports nothing any more but bugs.
func (f *Frontend) failed(a *activation, err error) {
	a.tasks.Cancel()
	var bug *task.PanicError
	if f.live.Load() == a && !a.failed.Swap(true) {
		f.Logf("device needs reset: %v", err)
		f.config()
	} else if errors.As(err, &bug) {
		f.Logf("%v", err)
	}
}

// stop ends the activation and waits for its goroutines. f.mu is held.
func (f *Frontend) stop() error {
	f.live.Store(nil)
	if f.last == nil {
		return nil
	}
	err := f.last.tasks.Stop()
	if err == nil {
		f.last = nil
	}
	return err
}

// Fail says that the device cannot serve queues any more, also after a reset: an activation that goes on needs a reset,
// and a later one fails. It only posts; any goroutine may call it.
func (f *Frontend) Fail(err error) {
	f.dead.Store(&err)
	if a := f.live.Load(); a != nil {
		f.failed(a, err)
	}
}

// Reset does what the driver's write of 0 to the status register does, and
// returns the device's error, which the driver cannot see.
func (f *Frontend) Reset() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reset()
}

// reset takes the queues back from the device and sets every register to its
// initial value (virtio 1.2 §2.4.1). A device that cannot stop accepts no
// features until a later reset succeeds: a driver then gives up in an orderly
// way, where one that waits for status 0 would wait for ever. f.mu is held.
func (f *Frontend) reset() error {
	if f.closed {
		return nil
	}
	err := errors.Join(f.stop(), f.dev.Reset())
	if err != nil && !f.broken {
		f.Logf("reset: %v: no driver can use the device now", err)
	}
	f.broken = err != nil
	f.status, f.driver = 0, 0
	f.deviceSelect, f.driverSelect, f.queueSelect = 0, 0, 0
	for i := range f.queues {
		q := &f.queues[i]
		*q = queueState{max: q.max, size: q.max, signalled: f.bells[i].call.signals.Load()}
		// What was signalled in the old life is of no use in the next. A
		// bell that still rings late is one spurious wake-up.
		f.bells[i].kick.Drain()
		f.bells[i].call.Drain()
	}
	return err
}

// Close closes the device and then the notifiers. The transport has detached
// doorbells and interrupts from these, and no vCPU uses the registers any
// more. Closing twice returns the first answer.
func (f *Frontend) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return f.closeProblems
	}
	f.closed = true
	var err error
	if cause := errors.Join(f.stop(), f.dev.Close()); cause != nil {
		err = fmt.Errorf("%s: close: %w", f.name, cause)
	}
	f.closeProblems = errors.Join(err, f.closeNotifiers())
	return f.closeProblems
}

func (f *Frontend) closeNotifiers() error {
	var errs []error
	for _, b := range f.bells {
		for _, n := range []*Notifier{b.kick, b.call} {
			if n != nil {
				errs = append(errs, n.Close())
			}
		}
	}
	return errors.Join(errs...)
}
