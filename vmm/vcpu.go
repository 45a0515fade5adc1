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
	"minivmm/vmm/sandbox"
)

// vcpu is one virtual CPU. Its own goroutine, locked to a thread for life, does everything except
// stop and the counters.
type vcpu struct {
	id    int
	fd    *kvm.VCPU
	stats *kvm.Stats

	tid  atomic.Int32  // thread ID, 0 before it is known
	runs atomic.Uint64 // how often KVM_RUN returned: exits to user space

	stopping atomic.Bool
	done     chan struct{} // closed when the goroutine exits
}

// vcpuPlan is shared by all vCPUs.
type vcpuPlan struct {
	vm        *kvm.VM
	count     int
	cpuid     []kvm.CPUIDEntry // supported by KVM
	tscKHz    int              // 0: unknown
	entry     boot.Entry       // of the first vCPU; the others wait for a SIPI
	io, mmio  *bus.Bus
	end       func(Outcome, error) // the first call counts
	logf      func(format string, args ...any)
	startGate <-chan struct{} // closed to let vCPUs run, or exit if stop was called first
	place     func() error    // moves the calling thread to the vCPUs' cgroup; nil: no move
}

// startVCPU creates vCPU id on a new thread and returns when it is waiting at the start gate.
func startVCPU(p vcpuPlan, id int) (*vcpu, error) {
	v := &vcpu{id: id, done: make(chan struct{})}
	ready := make(chan error)
	go func() {
		defer close(v.done)
		// Never unlocked: KVM_RUN from another thread costs an RCU grace period.
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

// MSRs of a new vCPU that firmware would set (Intel SDM vol. 4).
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
	// Before the first run: later the call would block on the vCPU's mutex.
	if v.stats, err = v.fd.StatsFD(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if err := v.setRegisters(p); err != nil {
		return err
	}
	// Also for the thread that KVM copies from it at the first run (kvm_mmu_start_lpage_recovery).
	return sandbox.Thread()
}

// run handles the vCPU's exits until stop is called. A panic in a device is a bug in minivmm, but
// it stops only this guest, and cleanly: the terminal is restored and the host's objects are
// removed.
func (v *vcpu) run(p vcpuPlan) {
	defer task.Catch(func(err error) { p.end(0, fmt.Errorf("vcpu %d: %w", v.id, err)) })
	for !v.stopping.Load() {
		exit, err := v.fd.Run()
		v.runs.Add(1)
		if err != nil {
			if errors.Is(err, unix.ENOMEM) {
				// The first run creates KVM's own worker.
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
			// A signal or stop: the loop's condition decides.
		case kvm.ExitShutdown:
			p.end(Crashed, nil)
			return
		default:
			p.end(v.unexpected(exit, p.logf))
			return
		}
	}
}

// serveIO passes a port access to the bus; a string instruction moves several items.
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

// KVMError is an exit that no guest should be able to cause: KVM cannot continue to run the vCPU.
type KVMError struct {
	VCPU   int
	Detail string // the exit, and where the guest was
}

func (e *KVMError) Error() string {
	return fmt.Sprintf("vcpu %d: KVM cannot continue: %s", e.VCPU, e.Detail)
}

// resetVector is where a processor starts after INIT (Intel SDM vol. 3A §10.1.4).
const resetVector = 0xffff_fff0

// unexpected returns the outcome of an exit that minivmm cannot handle. A guest can cause most of
// them: it sends itself INIT, by any kind of interrupt, or its code, its stack or the delivery of
// an exception is at an address without memory. Those stop the guest, with a line in the log.
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
				logf("vcpu %d: the guest reset it with INIT, and there is no firmware to run", v.id)
				return Rebooted, nil
			}
			logf("vcpu %d: the guest executed something that KVM cannot emulate: %s", v.id, detail)
			return Crashed, nil
		}
	}
	return 0, &KVMError{VCPU: v.id, Detail: detail}
}

// stop makes the goroutine leave its loop, wherever the vCPU is: the flag is for a vCPU that
// handles an exit, immediate_exit for one about to enter the guest, the signal for one in the guest
// or halted. The Go runtime uses SIGURG for preemption and ignores spurious ones.
func (v *vcpu) stop() {
	v.stopping.Store(true)
	v.fd.SetImmediateExit(true)
	select {
	case <-v.done: // the thread ID may belong to another thread by now
	default:
		_ = unix.Tgkill(os.Getpid(), int(v.tid.Load()), unix.SIGURG)
	}
}

// close releases the vCPU. Its goroutine must have exited.
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
