package virtio

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"minivmm/devices/guestmem"
	"minivmm/internal/task"
)

// MaxQueueSize is the maximum size of a split ring (virtio 1.2 §2.7).
const MaxQueueSize = 32768

// Options configure a Frontend.
type Options struct {
	// Name is the device's name in notifiers, errors and log lines, for example "net0".
	Name string
	// Logf logs one line, without newline; nil discards it. Any goroutine may call it. Lines that a
	// guest can cause are limited to a few a minute.
	Logf func(format string, args ...any)
	// OnConfig raises the configuration change interrupt; nil ignores the change. Any goroutine may
	// call it, even while a write to the status register waits for that goroutine, so it must not
	// block.
	OnConfig func()
}

// Frontend is the device side of virtio's initialization and registers (virtio 1.2 §2.1, §3.1,
// §4.1.4.3). It is the same for every transport. A guest can activate and reset a Device only
// through its Frontend.
//
// It is safe for concurrent use by all vCPUs.
type Frontend struct {
	dev     Device
	mem     *guestmem.Memory
	name    string
	bells   []bells // by queue
	offered Features
	config  func()
	log     logLimit

	// live is the activation that DRIVER_OK started. It is nil before DRIVER_OK and once a reset
	// starts. configChanged, failed and Fail read it without mu.
	live       atomic.Pointer[activation]
	dead       atomic.Pointer[error] // see Fail
	generation atomic.Uint32

	mu            sync.Mutex  // guards the fields below; held during Activate and Reset
	last          *activation // nil once its goroutines have exited
	status        Status      // as the driver set it, without NEEDS_RESET
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
	signalled uint64 // value of Call's signals at the last reset
}

// activation is the data path from DRIVER_OK to reset.
type activation struct {
	tasks  *task.Group
	failed atomic.Bool
}

// ringFeatures are the feature bits of the rings and of negotiation, not of the device type (virtio
// 1.2 §2.2: bits 24 to 49). Of these bits the frontend offers only those in rings and
// FeatureVersion1, whatever a device or its backend reports.
const (
	ringFeatures Features = 1<<50 - 1<<24
	rings                 = FeatureRingIndirectDesc | FeatureRingEventIdx
)

// NewFrontend creates the frontend of dev over mem, with a Kick and a Call Notifier for each queue
// ("net0-kick-1"). On success the Frontend owns dev and its Close closes dev. On error dev still
// belongs to the caller.
func NewFrontend(dev Device, mem *guestmem.Memory, opts Options) (*Frontend, error) {
	sizes := dev.QueueSizes()
	if len(sizes) > 1024 {
		return nil, fmt.Errorf("%s: %d queues: the maximum is 1024", opts.Name, len(sizes))
	}
	f := &Frontend{
		dev:     dev,
		mem:     mem,
		name:    opts.Name,
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
			err = fmt.Errorf("%s: queue %d: maximum size %d is not a power of two up to %d", f.name, i, max, MaxQueueSize)
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

// Name returns the name from Options.
func (f *Frontend) Name() string { return f.name }

// ID returns the device's type.
func (f *Frontend) ID() DeviceID { return f.dev.ID() }

// NumQueues returns the number of queues, which never changes.
func (f *Frontend) NumQueues() int { return len(f.bells) }

// Kick returns the notifier of queue i from driver to device, Call the one from device to driver.
// Both stay the same for the life of the Frontend, whose Close closes them.
func (f *Frontend) Kick(i int) *Notifier { return f.bells[i].kick }

// Call is described at [Frontend.Kick].
func (f *Frontend) Call(i int) *Notifier { return f.bells[i].call }

// Logf logs a line about what the guest did, prefixed with the device's name. The lines are limited
// to a few a minute.
func (f *Frontend) Logf(format string, args ...any) {
	f.log.printf(f.name+": "+format, args...)
}

// ReadConfig fills p from the device-specific configuration (virtio 1.2 §2.5). Bytes that the
// device does not fill read as zero.
func (f *Frontend) ReadConfig(p []byte, off uint32) {
	clear(p)
	f.dev.ReadConfig(p, off)
}

// WriteConfig forwards a write to the device-specific configuration.
func (f *Frontend) WriteConfig(p []byte, off uint32) { f.dev.WriteConfig(p, off) }

// activate hands the queues to the device at DRIVER_OK. If the device refuses them, the status
// shows DEVICE_NEEDS_RESET at once. f.mu is held.
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

// configChanged does not block: see Activation.
func (f *Frontend) configChanged(a *activation) {
	f.generation.Add(1)
	if f.live.Load() == a {
		f.config()
	}
}

// failed does not block: see Activation. If a reset has already ended the activation, only bugs are
// still logged.
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

// stop cancels the activation and waits for its goroutines. f.mu is held.
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

// Fail records that the device can no longer serve queues, even after a reset: the driver must
// reset a running activation, and every later one fails. Fail does not block; any goroutine may
// call it.
func (f *Frontend) Fail(err error) {
	f.dead.Store(&err)
	if a := f.live.Load(); a != nil {
		f.failed(a, err)
	}
}

// Reset does the same as a driver's write of 0 to the status register. It returns the device's
// error, which the driver cannot see.
func (f *Frontend) Reset() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reset()
}

// reset takes the queues back from the device and sets every register to its initial value (virtio
// 1.2 §2.4.1). If the device cannot stop, the Frontend accepts no features until a later reset
// succeeds: the driver then gives up in an orderly way. If status 0 were delayed instead, a driver
// that waits for it would wait forever. f.mu is held.
func (f *Frontend) reset() error {
	if f.closed {
		return nil
	}
	err := errors.Join(f.stop(), f.dev.Reset())
	if err != nil && !f.broken {
		f.Logf("reset: %v: the device is unusable until a reset succeeds", err)
	}
	f.broken = err != nil
	f.status, f.driver = 0, 0
	f.deviceSelect, f.driverSelect, f.queueSelect = 0, 0, 0
	for i := range f.queues {
		q := &f.queues[i]
		*q = queueState{max: q.max, size: q.max, signalled: f.bells[i].call.signals.Load()}
		// Signals from before the reset must not reach the next activation. A late signal is only
		// one spurious wake-up.
		f.bells[i].kick.Drain()
		f.bells[i].call.Drain()
	}
	return err
}

// Close closes the device and then the notifiers. Before the call, the transport must have detached
// doorbells and interrupts from the notifiers, and no vCPU may use the registers any more. A second
// Close returns the result of the first.
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
