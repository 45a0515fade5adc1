package vmm

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"minivmm/devices/bus"
	"minivmm/internal/task"
	"minivmm/kvm"
	"minivmm/vhost"
	"minivmm/vmm/boot"
)

// vcpu is one virtual CPU. Everything is done by its own goroutine, locked to
// a thread for life, but for stop and the counters.
type vcpu struct {
	id    int
	fd    *kvm.VCPU
	stats *kvm.Stats

	tid  atomic.Int32  // of the thread, 0 before it is known
	runs atomic.Uint64 // how often KVM_RUN came back: exits to user space

	stopping atomic.Bool
	done     chan struct{} // closed when the goroutine ends
}

// vcpuPlan is what all vCPUs share.
type vcpuPlan struct {
	vm        *kvm.VM
	count     int
	cpuid     []kvm.CPUIDEntry // supported by KVM
	tscKHz    int              // 0: unknown
	entry     boot.Entry       // of the first vCPU; the others wait for their SIPI
	io, mmio  *bus.Bus
	end       func(Outcome, error) // the first call decides
	logf      func(format string, args ...any)
	startGate <-chan struct{} // closed to run, or to leave if stop came first
	place     func() error    // puts the calling thread where vCPUs' belong; nil: it is there
}

// startVCPU makes vCPU id on a thread of its own and returns when it stands
// ready before the gate.
func startVCPU(p vcpuPlan, id int) (*vcpu, error) {
	v := &vcpu{id: id, done: make(chan struct{})}
	ready := make(chan error)
	go func() {
		defer close(v.done)
		// Never unlocked: KVM_RUN from another thread costs a grace period.
		runtime.LockOSThread()
		v.tid.Store(int32(unix.Gettid()))
		err := v.setUp(p)
		ready <- err
		if err != nil {
			return
		}
		<-p.startGate
		v.run(p)
	}()
	if err := <-ready; err != nil {
		<-v.done
		return nil, fmt.Errorf("vcpu %d: %w", id, errors.Join(err, v.close()))
	}
	return v, nil
}

// MSRs of a fresh vCPU that firmware would set (Intel SDM vol. 4).
const (
	msrMTRRDefType = 0x2ff
	msrMiscEnable  = 0x1a0
)

func (v *vcpu) setUp(p vcpuPlan) (err error) {
	if p.place != nil {
		if err := p.place(); err != nil {
			return err
		}
	}
	if v.fd, err = p.vm.CreateVCPU(v.id); err != nil {
		return err
	}
	// Before the first run: later the call would wait for the vCPU's mutex.
	if v.stats, err = v.fd.StatsFD(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if err := v.fd.SetCPUID2(vcpuCPUID(p.cpuid, v.id, p.count, p.tscKHz)); err != nil {
		return err
	}
	if err := v.fd.SetMSRs([]kvm.MSREntry{
		{Index: msrMiscEnable, Data: 1},      // fast strings
		{Index: msrMTRRDefType, Data: 0x806}, // enabled, write-back: no range is needed
	}); err != nil {
		return err
	}
	if v.id != 0 {
		return nil
	}
	sregs, err := v.fd.Sregs()
	if err != nil {
		return err
	}
	applyEntry(&sregs, p.entry)
	if err := v.fd.SetSregs(sregs); err != nil {
		return err
	}
	return v.fd.SetRegs(kvm.Regs{RIP: p.entry.RIP, RSI: p.entry.RSI, RBX: p.entry.RBX, RFLAGS: p.entry.RFLAGS})
}

// applyEntry puts the kernel's entry state into the registers of a vCPU that
// was just made.
func applyEntry(s *kvm.Sregs, e boot.Entry) {
	s.CR0, s.CR3, s.CR4, s.EFER = e.CR0, e.CR3, e.CR4, e.EFER
	s.GDT = kvm.DTable{Base: e.GDTBase, Limit: e.GDTLimit}
	s.CS, s.TR = segment(e.Code), segment(e.Task)
	data := segment(e.Data)
	s.DS, s.ES, s.FS, s.GS, s.SS = data, data, data, data, data
}

func segment(e boot.Segment) kvm.Segment {
	bit := func(b bool) uint8 {
		if b {
			return 1
		}
		return 0
	}
	return kvm.Segment{
		Base: uint64(e.Base), Limit: e.Limit, Selector: e.Selector, Type: e.Type,
		Present: 1, S: bit(e.S), L: bit(e.L), DB: bit(e.DB), G: bit(e.G),
	}
}

// run serves the vCPU's exits until it is told to stop. A panic in a device is
// a bug of ours, but it ends this guest in order, with the terminal and the
// host's objects given back.
func (v *vcpu) run(p vcpuPlan) {
	defer task.Catch(func(err error) { p.end(0, fmt.Errorf("vcpu %d: %w", v.id, err)) })
	for !v.stopping.Load() {
		exit, err := v.fd.Run()
		v.runs.Add(1)
		if err != nil {
			if errors.Is(err, unix.ENOMEM) {
				// The first run makes KVM's own worker.
				err = fmt.Errorf("%w (%s)", err, vhost.TaskLimits())
			}
			p.end(0, fmt.Errorf("vcpu %d: %w", v.id, err))
			return
		}
		switch exit.Reason {
		case kvm.ExitIO:
			serveIO(p.io, exit)
		case kvm.ExitMMIO:
			if exit.MMIO.Write {
				p.mmio.Write(exit.MMIO.GPA, exit.MMIO.Data)
			} else {
				p.mmio.Read(exit.MMIO.GPA, exit.MMIO.Data)
			}
		case kvm.ExitIntr:
			// A signal, or stop: the loop's condition knows.
		case kvm.ExitShutdown:
			p.end(Crashed, nil)
			return
		default:
			p.end(v.unexpected(exit, p.logf))
			return
		}
	}
}

// serveIO passes a port access on; a string instruction moves several items.
func serveIO(b *bus.Bus, exit *kvm.Exit) {
	size := exit.IO.Size
	for data := exit.IO.Data; len(data) >= size && size > 0; data = data[size:] {
		if exit.IO.Write {
			b.Write(uint64(exit.IO.Port), data[:size])
		} else {
			b.Read(uint64(exit.IO.Port), data[:size])
		}
	}
}

// KVMError is an exit that no guest should be able to cause: KVM could not go on with the vCPU.
type KVMError struct {
	VCPU   int
	Detail string // the exit, and where the guest was
}

func (e *KVMError) Error() string {
	return fmt.Sprintf("vcpu %d: KVM cannot go on: %s", e.VCPU, e.Detail)
}

// resetVector is where a processor starts after INIT (Intel SDM vol. 3A §10.1.4).
const resetVector = 0xffff_fff0

// unexpected says how the machine ends by an exit that has no answer. A guest causes most of them:
// it sends itself INIT, by whatever interrupt, or it runs code, has an exception delivered or its
// stack in addresses without memory. Those are the guest's end, with a line in the log.
func (v *vcpu) unexpected(exit *kvm.Exit, logf func(string, ...any)) (Outcome, error) {
	detail, at := exit.String(), uint64(0)
	regs, err := v.fd.Regs()
	sregs, err2 := v.fd.Sregs()
	if errors.Join(err, err2) == nil {
		at = sregs.CS.Base + regs.RIP
		detail += fmt.Sprintf(", at rip %#x", regs.RIP)
	}
	if exit.Reason == kvm.ExitInternalError {
		switch exit.Internal.Suberror {
		case kvm.InternalErrorEmulation, kvm.InternalErrorSimulEx, kvm.InternalErrorDeliveryEv:
			if at == resetVector {
				logf("vcpu %d: the guest reset it with INIT, and there is no firmware to start", v.id)
				return Rebooted, nil
			}
			logf("vcpu %d: the guest did what KVM cannot emulate: %s", v.id, detail)
			return Crashed, nil
		}
	}
	return 0, &KVMError{VCPU: v.id, Detail: detail}
}

// stop makes the goroutine leave its loop, from wherever the vCPU is: the flag
// is for one that serves an exit, immediate_exit for one about to enter the
// guest, the signal for one in the guest or halted. SIGURG is what the Go
// runtime takes for its own and ignores.
func (v *vcpu) stop() {
	v.stopping.Store(true)
	v.fd.SetImmediateExit(true)
	select {
	case <-v.done: // its thread id may be another's by now
	default:
		_ = unix.Tgkill(os.Getpid(), int(v.tid.Load()), unix.SIGURG)
	}
}

// close releases the vCPU; its goroutine has ended.
func (v *vcpu) close() error {
	var errs []error
	if v.stats != nil {
		errs = append(errs, v.stats.Close())
	}
	if v.fd != nil {
		errs = append(errs, v.fd.Close())
	}
	return errors.Join(errs...)
}
