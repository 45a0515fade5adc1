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

// vcpu is one virtual CPU. Its own goroutine, which is always locked to one thread, does everything
// except stop and reading the counters.
type vcpu struct {
	vm    *VM
	id    int
	fd    *kvm.VCPU
	stats *kvm.Stats

	tid  atomic.Int32  // thread ID, 0 before it is known
	runs atomic.Uint64 // how often KVM_RUN returned: exits to user space

	stopping atomic.Bool
	done     chan struct{} // closed when the goroutine exits
}

// vcpuStart holds the initial state of the vCPUs.
type vcpuStart struct {
	cpuid  []kvm.CPUIDEntry // supported by KVM
	tscKHz int              // 0: unknown
	entry  boot.Entry       // of the first vCPU; the other vCPUs wait for a SIPI
}

// startVCPU creates vCPU id on a new thread and returns when it is waiting at the start gate.
func (m *VM) startVCPU(id int, start vcpuStart) (*vcpu, error) {
	v := &vcpu{vm: m, id: id, done: make(chan struct{})}
	ready := make(chan error)
	go func() {
		defer close(v.done)
		// The goroutine stays on this thread: KVM_RUN from another thread costs an RCU grace
		// period.
		runtime.LockOSThread()
		v.tid.Store(int32(unix.Gettid()))
		err := v.setUp(start)
		ready <- err
		if err != nil {
			return
		}
		<-m.gate
		v.run()
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

func (v *vcpu) setUp(start vcpuStart) (err error) {
	if v.vm.cgroup != nil {
		if err := v.vm.cgroup.EnterVCPU(); err != nil {
			return err
		}
	}
	if v.fd, err = v.vm.vm.CreateVCPU(v.id); err != nil {
		return err
	}
	// StatsFD is called before the first run: later, the call would block on the vCPU's mutex.
	if v.stats, err = v.fd.StatsFD(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if err := v.setRegisters(start); err != nil {
		return err
	}
	// This also covers the thread that KVM copies from this one at the first run
	// (kvm_mmu_start_lpage_recovery).
	return sandbox.Thread()
}

// run handles the vCPU's exits until stop is called. A panic in a device is a bug in minivmm, but
// it stops only this guest, and cleanly: the terminal is restored and the host's objects are
// removed.
func (v *vcpu) run() {
	m := v.vm
	defer task.Catch(func(err error) { m.end(0, fmt.Errorf("vcpu %d: %w", v.id, err)) })
	for !v.stopping.Load() {
		exit, err := v.fd.Run()
		v.runs.Add(1)
		if err != nil {
			if errors.Is(err, unix.ENOMEM) {
				// The first run creates KVM's own worker.
				err = fmt.Errorf("%w (%s)", err, vhost.TaskLimits())
			}
			m.end(0, fmt.Errorf("vcpu %d: %w", v.id, err))
			return
		}
		switch exit.Reason {
		case kvm.ExitIO:
			size := exit.IO.Size // bytes in one item; a string instruction moves several items
			for data := exit.IO.Data; len(data) >= size && size > 0; data = data[size:] {
				access(&m.io, uint64(exit.IO.Port), data[:size], exit.IO.Write)
			}
		case kvm.ExitMMIO:
			access(&m.mmio, exit.MMIO.GPA, exit.MMIO.Data, exit.MMIO.Write)
		case kvm.ExitIntr:
			// A signal or a call of stop: the loop's condition decides whether to continue.
		case kvm.ExitShutdown:
			m.end(Crashed, nil)
			return
		default:
			m.end(v.unexpected(exit))
			return
		}
	}
}

func access(b *bus.Bus, addr uint64, p []byte, write bool) {
	if write {
		b.Write(addr, p)
	} else {
		b.Read(addr, p)
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

// unexpected returns the outcome of an exit that minivmm cannot handle. A guest can cause most such
// exits: by sending itself INIT, with any kind of interrupt, or by executing code, using a stack or
// taking an exception at an address without memory. Such an exit stops the guest and logs one line.
func (v *vcpu) unexpected(exit *kvm.Exit) (Outcome, error) {
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
				v.vm.opt.Logf("vcpu %d: the guest reset it with INIT, and there is no firmware to run", v.id)
				return Rebooted, nil
			}
			v.vm.opt.Logf("vcpu %d: the guest executed something that KVM cannot emulate: %s", v.id, detail)
			return Crashed, nil
		}
	}
	return 0, &KVMError{VCPU: v.id, Detail: detail}
}

// stop makes the goroutine leave its loop, whatever the vCPU is doing. The field stopping is for a
// vCPU that handles an exit, immediate_exit for one that is about to enter the guest, and the
// signal for one in the guest or halted. The Go runtime uses SIGURG for preemption and ignores
// spurious signals.
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
