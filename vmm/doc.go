// Package vmm runs a virtual machine: [Resolve] turns a configuration into a plan, [New] builds the
// machine, Run runs the guest and Close releases everything.
//
// Start, by file: plan.go decides what the configuration leaves open and lists the devices. One
// question stays open until the disks' workers are created: whether the kernel supports several
// workers for one device. limits.go and reserve.go move the process into the machine's cgroup, with
// all the threads that it will need. vm.go opens KVM, checks its capabilities and opens the kernel
// image. layout_amd64.go places RAM and devices in the guest's address space. irq.go connects
// devices to KVM. devices.go creates each virtio device with its backend and puts it on the PCI
// bus. workers.go creates the kernel threads that serve the devices, lists these workers and
// notices when one has exited; tune.go and diskworkers.go change them while the guest runs.
// kernel.go calls packages boot and acpi to load the kernel and the tables into memory. vcpu.go
// creates a locked thread for each vCPU, and these threads wait at the start gate. Each step pushes
// its undo step on the stack of closers; Close runs all undo steps, and so does New if it fails.
// Run opens the gate.
//
// Path of a transmitted packet: the guest writes its queue's doorbell. KVM matches the ioeventfd
// and signals Kick, in the kernel. The vhost worker, a thread of this process, reads the ring in
// this process's memory, sends to the tap, publishes the buffer as used and signals Call. The irqfd
// injects the vector's MSI. On this path, no vCPU exits to user space and no Go code runs.
//
// While the guest runs, Report returns the resource usage: report.go collects it from package
// account, the devices' rings, LIO and KVM, and changes none of them.
//
// The locks in one line of this list are acquired from left to right; locks of different lines are
// never held together:
//
//	VM.workersMu                  the list of workers; no vCPU acquires it, as it is held while the
//	                              kernel creates threads and while a watch of a worker is closed
//	disks.mu                      the LIO target, for rescans and reports
//	virtiopci window.mu, then the locks of an access to the BAR
//	pci.Function.mu or nothing, pci.MSIX.mu, virtiopci wiring.mu, host.mu
//	virtio.Frontend.mu            during activation and reset, then the device's and its backend's own
//	virtiopci doorbells.mu
//	UART.mu, VM.pulsing           never together: the UART raises its line after it has unlocked
//
// Locks of devices and backends are never held during a call of the Frontend, except for Failed and
// ConfigChanged, which only post. The lock of the log (virtio loglimit) is always acquired last.
//
// Close works in this order: it stops the vCPU threads and waits for them, so that nothing writes
// registers any more. It resets and closes the devices, which stops the kernel's workers. Then it
// closes the doorbells and interrupts, then KVM, and last the memory that all of these used.
package vmm
