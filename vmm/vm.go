package vmm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"minivmm/devices/bus"
	"minivmm/devices/guestmem"
	"minivmm/devices/pci"
	"minivmm/devices/serial"
	"minivmm/devices/virtio/console"
	"minivmm/internal/task"
	"minivmm/kvm"
	"minivmm/vmm/boot"
	"minivmm/vmm/cgroup"
)

// Outcome is how a guest stopped.
type Outcome int

// The outcomes.
const (
	PoweredOff Outcome = iota + 1 // the guest wrote the sleep control register
	Rebooted                      // the guest wrote a reset register, see power.go
	Crashed                       // triple fault, or code that KVM cannot emulate
	Stopped                       // Run's context was done first
)

func (o Outcome) String() string {
	names := [...]string{PoweredOff: "powered off", Rebooted: "rebooted", Crashed: "crashed", Stopped: "was stopped"}
	if o < PoweredOff || o > Stopped {
		return fmt.Sprintf("outcome %d", int(o))
	}
	return names[o]
}

// Options connect a VM to the process that runs it.
type Options struct {
	// Console receives what the guest writes to its serial port. It must not block: a vCPU waits
	// for it.
	Console io.Writer
	// Logf logs one line, without newline; any goroutine may call it. Lines that a guest can cause
	// are rate-limited.
	Logf func(format string, args ...any)
	// Ports are the streams that the plan names. Once New has succeeded, the VM owns and closes
	// them.
	Ports []Port
}

// Port is a stream between a program in the guest and the host.
type Port = console.Port

// VM is one virtual machine, from New to Close.
type VM struct {
	plan    Plan
	opt     Options
	closers closers
	tasks   *task.Group // goroutines that live as long as the machine

	vm      *kvm.VM
	mem     *guestmem.Memory
	ecam    *guestmem.Memory // PCI configuration space as the guest reads it
	io      bus.Bus
	mmio    bus.Bus
	host    *host
	root    *pci.Root
	uart    *serial.UART
	pulsing sync.Mutex // serializes pulses of interrupt lines
	vcpus   []*vcpu

	workersMu sync.Mutex // guards workers
	workers   []Worker

	account accounted
	cgroup  *cgroup.Group // nil without limits
	disks   disks

	gate     chan struct{} // closed: vCPUs may run
	openGate func()
	ended    chan result // has room for one: the result of the first call of end
}

// result is how the machine stopped: an outcome, or an error of the host.
type result struct {
	outcome Outcome
	err     error
}

// required are the capabilities that a VM cannot work without.
var required = []kvm.Cap{
	kvm.CapIRQChip, kvm.CapUserMemory, kvm.CapSetTSSAddr, kvm.CapExtCPUID, kvm.CapIRQRouting, kvm.CapIRQFD,
	kvm.CapIOEventFD, kvm.CapIOEventFDAnyLength, kvm.CapSetIdentityMapAddr,
	kvm.CapImmediateExit, kvm.CapReadonlyMem,
}

// ConfigError is a configuration from which no machine can be built, whatever devices the host has:
// for example, the kernel file is not a kernel, or it does not fit into the memory.
type ConfigError struct{ error }

func (e *ConfigError) Unwrap() error { return e.error }

// New builds the machine of a plan, up to the gate before the first instruction. On error nothing
// is left behind: no tap, no LIO object, no thread. The caller must call Close, even if Run fails.
//
// Limits apply to the process: New moves it to a cgroup until Close, and Close does not restore its
// resource limits.
// New sets up no namespaces; the caller's process must already be in them.
func New(plan Plan, opt Options) (_ *VM, err error) {
	m := &VM{plan: plan, opt: opt, gate: make(chan struct{}), ended: make(chan result, 1)}
	m.openGate = sync.OnceFunc(func() { close(m.gate) })
	m.tasks = task.New(func(err error) { opt.Logf("%v", err) })
	defer func() {
		if err != nil {
			err = errors.Join(explainFiles(err), m.Close())
		}
	}()

	if err := m.addLimits(); err != nil {
		return nil, err
	}
	sys, err := kvm.Open()
	if err != nil {
		return nil, err
	}
	defer sys.Close()
	if err := sys.Require(required...); err != nil {
		return nil, err
	}
	if most, err := sys.CheckExtension(kvm.CapMaxVCPUs); err == nil && plan.Machine.VCPUs > most {
		return nil, &ConfigError{fmt.Errorf("machine.vcpus %d: this host's KVM supports at most %d", plan.Machine.VCPUs, most)}
	}
	kernel, err := boot.Open(string(plan.Boot.Kernel), boot.Options{
		Protocol:   boot.Protocol(plan.Boot.Protocol),
		KeepPacked: plan.Boot.KASLR,
	})
	if err != nil {
		return nil, &ConfigError{err}
	}
	defer kernel.Close()
	if info := kernel.Info(); info.NotUnpacked != nil {
		opt.Logf("%s decompresses itself in the guest: %v", plan.Boot.Kernel, info.NotUnpacked)
	}

	supported, err := sys.SupportedCPUID()
	if err != nil {
		return nil, err
	}
	devices := m.plan.devices()
	if err := m.addMemory(ecamUsed(len(devices))); err != nil {
		return nil, err
	}
	if err := m.addMachine(sys); err != nil {
		return nil, err
	}
	if err := m.addDevices(devices); err != nil {
		return nil, err
	}
	m.closers.push("goroutines", m.tasks.Stop)
	m.closers.push("workers", m.forgetWorkers)
	m.workersMu.Lock()
	err = m.watchWorkers()
	m.workersMu.Unlock()
	if err != nil {
		return nil, err
	}
	tscKHz, err := m.vm.TSCKHz()
	if err != nil && !errors.Is(err, unix.ENOTTY) {
		return nil, err
	}
	entry, err := m.load(kernel, tscKHz)
	if err != nil {
		return nil, err
	}
	if err := m.addVCPUs(vcpuStart{supported, tscKHz, entry}); err != nil {
		return nil, err
	}
	if err := checkFiles(); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *VM) addMemory(ecamBytes uint64) (err error) {
	m.mem, err = guestmem.New(ramRanges(uint64(m.plan.Machine.Memory)))
	if err != nil {
		return err
	}
	m.closers.push("guest memory", m.mem.Close)
	m.ecam, err = guestmem.New([]guestmem.Range{{GPA: ecamGPA, SizeBytes: ecamBytes}})
	if err != nil {
		return err
	}
	m.closers.push("PCI configuration space", m.ecam.Close)
	return nil
}

// addMachine creates the VM with everything that is not a virtio device.
func (m *VM) addMachine(sys *kvm.System) (err error) {
	if err = m.createVM(sys); err != nil {
		return err
	}
	m.closers.push("KVM", m.vm.Close)
	if err := m.vm.SetIdentityMapAddr(identityMapGPA); err != nil {
		return err
	}
	if err := m.vm.SetTSSAddr(tssGPA); err != nil {
		return err
	}
	if err := m.vm.CreateIRQChip(); err != nil {
		return err
	}
	if m.host, err = newHost(m.vm); err != nil {
		return err
	}
	if err := m.mapMemory(); err != nil {
		return err
	}
	m.root = pci.NewRoot(pci.Options{
		MMIO:   &m.mmio,
		IO:     &m.io,
		Memory: pci.Window{Base: mmioGPA, SizeBytes: mmioSize},
		Ports:  pci.Window{Base: pciPortBase, SizeBytes: pciPortSize},
		ECAM:   m.ecam.Regions()[0].Bytes,
	})
	m.uart = serial.New(m.opt.Console, func() {
		if err := m.pulse(com1IRQ); err != nil {
			m.opt.Logf("serial port: %v", err)
		}
	})
	if err := m.mmio.Attach(ecamGPA, ecamSize, m.root.ECAM()); err != nil {
		return err
	}
	if err := m.io.Attach(com1Port, 8, m.uart); err != nil {
		return err
	}
	var configPorts bus.Handler
	if m.plan.Machine.PCIPorts {
		configPorts = m.root.Ports()
	}
	return attachPower(&m.io, configPorts, func(o Outcome) { m.end(o, nil) })
}

// mapMemory maps the guest's memory, also for system management mode: an interrupt with delivery
// mode SMI enters that mode, and KVM stops a VM that has no memory there.
func (m *VM) mapMemory() error {
	spaces, err := m.vm.CheckExtension(kvm.CapMultiAddressSpace)
	if err != nil {
		return err
	}
	for space := range uint32(max(spaces, 1)) {
		for slot, r := range append(m.mem.Regions(), m.ecam.Regions()...) {
			flags := uint32(0)
			if r.GPA == ecamGPA {
				flags = kvm.MemReadonly // reads need no exit; writes are served as MMIO
			}
			if err := m.vm.SetUserMemoryRegion(space<<16|uint32(slot), flags, uint64(r.GPA), uint64(len(r.Bytes)), r.HVA()); err != nil {
				return fmt.Errorf("guest memory %#x+%#x: %w", uint64(r.GPA), len(r.Bytes), err)
			}
		}
	}
	return nil
}

// pulse raises an edge on a pin of the IOAPIC. Pulses are serialized, because an interrupt would be
// lost otherwise: KVM sees no edge on a line that another pulse still holds high.
func (m *VM) pulse(pin uint32) error {
	m.pulsing.Lock()
	defer m.pulsing.Unlock()
	return errors.Join(m.vm.IRQLine(pin, true), m.vm.IRQLine(pin, false))
}

func (m *VM) addVCPUs(start vcpuStart) error {
	for id := range m.plan.Machine.VCPUs {
		v, err := m.startVCPU(id, start)
		if err != nil {
			return err
		}
		m.vcpus = append(m.vcpus, v)
		m.closers.push(fmt.Sprintf("vcpu %d", id), v.close)
	}
	// Pushed last, run first: all threads exit before anything is closed.
	m.closers.push("vcpu threads", m.join)
	return nil
}

// Run runs the guest until it stops or ctx is done. It may be called once. An error comes from the
// host, that is KVM or this program; a guest that stops in any way is an Outcome.
func (m *VM) Run(ctx context.Context) (Outcome, error) {
	stop := context.AfterFunc(ctx, func() { m.end(Stopped, nil) })
	defer stop()
	m.openGate()
	end := <-m.ended
	m.join()
	return end.outcome, end.err
}

// end records how the guest stopped. Only the first call has an effect.
func (m *VM) end(o Outcome, err error) {
	select {
	case m.ended <- result{o, err}:
	default:
	}
}

// join stops all vCPUs and waits for their threads.
func (m *VM) join() error {
	for _, v := range m.vcpus {
		v.stop()
	}
	m.openGate() // for those that never ran
	for _, v := range m.vcpus {
		<-v.done
	}
	return nil
}

// PowerButton presses the ACPI power button; how the guest reacts is up to the guest.
func (m *VM) PowerButton() error { return m.pulse(eventIRQ) }

// Console returns the guest's serial port, for input.
func (m *VM) Console() *serial.UART { return m.uart }

// Close releases everything that the machine has on the host.
func (m *VM) Close() error { return m.closers.close() }

// closers is a stack of undo steps. A New that fails and Close both run it.
type closers []closer

type closer struct {
	name string
	fn   func() error
}

// push adds a step; name identifies it in errors.
func (c *closers) push(name string, fn func() error) {
	*c = append(*c, closer{name, fn})
}

// close runs every step, last first, even if some fail. A second call does nothing.
func (c *closers) close() error {
	var errs []error
	steps := *c
	*c = nil
	for _, step := range slices.Backward(steps) {
		if err := step.fn(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", step.name, err))
		}
	}
	return errors.Join(errs...)
}
