// Package vmm is a virtual machine: [Resolve] makes a plan of a configuration, [New] builds it, Run
// runs the guest, Close takes everything apart.
//
// The start, by file. plan.go and choosenet.go decide what the configuration leaves open and list
// the devices; only whether the kernel can have several workers for the disks shows later, when they
// are made. limits.go and reserve.go put the process into the
// machine's cgroup with all the threads it will want; vm.go opens KVM, checks its capabilities and opens the
// kernel image; layout_amd64.go says where RAM and devices lie; irq.go and host.go
// are what devices see of KVM; devices.go makes each virtio device with its
// backend and puts it on the PCI bus; workers.go makes the kernel's threads that
// serve these, lists them and changes them while the guest runs; boot and acpi
// put kernel and tables into memory; vcpu.go makes a locked thread for each vCPU
// and leaves it before the gate. Each step pushes its undo on closers.go's
// stack, which serves a New that fails as well as Close. Run opens the gate.
//
// A packet out: the guest writes its queue's doorbell; KVM matches the
// ioeventfd and signals Kick, in the kernel; the vhost worker, a thread of this
// process, reads the ring in this process's memory, sends to the tap, publishes
// the buffer as used and signals Call; the irqfd injects the vector's MSI. No
// exit to user space, no Go.
//
// Meanwhile, Report says what all of it costs: report.go collects it from package
// account, the devices' rings, LIO and KVM, and touches none of them. watch.go
// notices a worker that is no more.
//
// Locks are taken in this order, from the first to the last of a line, and no two of different lines
// are held together:
//
//	VM.workersMu                  made and changed workers; no vCPU takes it, as it is held while the
//	                              kernel makes threads and while a watch of a worker ends
//	vhostDisks.mu                 the LIO target, for rescans and reports
//	virtiopci window.mu, then what an access to the BAR takes
//	pci.Function.mu or nothing, pci.MSIX.mu, virtiopci wiring.mu, router.mu
//	virtio.Frontend.mu            during activation and reset, then the device's and its backend's own
//	virtiopci doorbells.mu
//	UART.mu, VM.pulsing           apart: the UART raises its line after it has unlocked
//
// Locks of devices and backends are never held over a call of the Frontend but Failed and
// ConfigChanged, which only post. The lock of the log (virtio loglimit) is the last everywhere.
//
// The end, and why in this order: vCPU threads stop and join, so nobody writes
// registers; devices reset and close, which ends the kernel's workers; then
// doorbells and interrupts, then KVM, and the memory that all of them used last.
package vmm
