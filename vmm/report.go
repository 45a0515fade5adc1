package vmm

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/net/usernet"
	"minivmm/kvm"
	"minivmm/vmm/account"
)

// accounted is the state that New records for Report.
type accounted struct {
	started  time.Time
	recovery func() int         // returns the thread ID of KVM's kernel thread for this VM, 0 if there is none
	fronts   []*virtio.Frontend // one for each device
	nets     []inProcessNet
}

// inProcessNet is a NIC whose network is in this process.
type inProcessNet struct {
	id      string
	backend *usernet.Backend
}

// createVM creates the KVM VM and records the thread that creates it: before Linux 6.13 KVM names a
// kernel thread after the creating thread. The kernel thread is looked up only when a report is
// requested, because most machines are never asked for a report.
func (m *VM) createVM(sys *kvm.System) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	maker := unix.Gettid()
	m.account.started = time.Now()
	m.account.recovery = sync.OnceValue(func() int { return account.FindRecovery(maker) })
	m.vm, err = sys.CreateVM()
	return err
}

// About describes the machine as seen from the host.
func (m *VM) About() account.Machine {
	return account.Machine{
		Name: string(m.plan.Name), PID: os.Getpid(), VCPUs: m.plan.Machine.VCPUs,
		Memory: uint64(m.plan.Machine.Memory), Started: m.account.started,
	}
}

// Report returns the machine's current resource usage. It reads kernel files and the guest's rings
// and does not stop the guest. Any goroutine may call it between New and Close.
// The report names the figures that the host does not provide; Report returns an error only if an
// essential figure is missing.
func (m *VM) Report() (*account.Report, error) {
	r := &account.Report{Machine: m.About(), Time: time.Now()}
	var err error
	if r.Threads, err = account.Threads(m.knownThreads(), m.account.recovery()); err != nil {
		return nil, fmt.Errorf("threads: %w", err)
	}
	if r.Process, err = account.ReadProcess(); err != nil {
		return nil, fmt.Errorf("getrusage: %w", err)
	}
	missing := func(what string, err error) { r.Missing = append(r.Missing, fmt.Sprintf("%s: %v", what, err)) }
	r.Roles = account.Roles(r.Threads, r.Process)
	if r.Cgroup, err = account.ReadCgroup(account.CommonCgroup(r.Threads)); err != nil {
		missing("cgroup", err)
	}
	if r.Memory, err = account.ReadMemory(); err != nil {
		missing("memory", err)
	}
	r.Memory.Guest = r.Machine.Memory
	r.Queues = m.queues()
	r.Memory.NotCharged = m.notCharged(r.Queues)
	if r.Disks, err = m.diskCounters(); err != nil {
		missing("LIO's counters", err)
	}
	for _, n := range m.account.nets {
		c := n.backend.Counters()
		r.Nets = append(r.Nets, account.Net{ID: n.id, Connections: c.Connections, Flows: c.Flows, Segments: c.Segments, Retransmits: c.SentAgain})
	}
	if err := m.kvmStats(&r.KVM); err != nil {
		missing("KVM's counters", err)
	}
	return r, nil
}

// knownThreads returns the threads whose roles the VM knows.
func (m *VM) knownThreads() []account.Thread {
	var known []account.Thread
	for _, v := range m.vcpus {
		known = append(known, account.Thread{TID: int(v.tid.Load()), Kind: account.VCPU, Role: fmt.Sprintf("vcpu %d", v.id)})
	}
	for _, w := range m.Workers() {
		known = append(known, account.Thread{TID: w.TID, Kthread: w.Kthread, Kind: account.Worker, Role: w.Device, Queues: w.Serves()})
	}
	return known
}

// queues returns the state of every queue.
func (m *VM) queues() (queues []account.Queue) {
	for _, f := range m.account.fronts {
		for _, s := range f.RingStates() {
			q := account.Queue{Device: f.Name(), Index: s.Index, Size: s.Size, Live: s.Live, Made: s.Available, Done: s.Used}
			q.Fill = min(int(s.Available-s.Used), s.Size)
			if s.Counted {
				q.Kicks = &s.Kicks
			}
			if s.InProcess {
				q.Interrupts = &s.Interrupts
			}
			queues = append(queues, q)
		}
	}
	return queues
}

// notCharged estimates, for each vhost device, the kernel memory that is charged to no cgroup.
func (m *VM) notCharged(queues []account.Queue) []account.Estimate {
	var all []account.Estimate
	for _, w := range m.Workers() {
		if slices.ContainsFunc(all, func(e account.Estimate) bool { return e.Device == w.Device }) {
			continue // a device with several workers
		}
		rings, requests := 0, []int(nil)
		for _, q := range queues {
			if q.Device != w.Device {
				continue
			}
			rings++
			if q.Live && q.Index >= scsiRequestQueue && w.Device == scsiName {
				requests = append(requests, q.Size)
			}
		}
		how := fmt.Sprintf("%d rings", rings)
		if w.Device == scsiName {
			most := maxIOVQs()
			rings = scsiRequestQueue + most
			how = fmt.Sprintf("%d rings, because vhost_scsi.max_io_vqs is %d, and request rings of %v descriptors in use", rings, most, requests)
		}
		all = append(all, account.Estimate{Device: w.Device, Bytes: account.VhostBuffers(rings, requests), How: "estimate, as Linux 6.12 allocates: " + how})
	}
	return all
}

// scsiName is the name of the only controller. scsiRequestQueue is the index of the controller's
// first request queue, after the control and event queues.
const (
	scsiName         = "scsi0"
	scsiRequestQueue = 2
)

// maxIOVQs returns how many request rings the kernel allocates for each vhost-scsi device, whether
// they are used or not.
func maxIOVQs() int {
	n, err := strconv.Atoi(readText("/sys/module/vhost_scsi/parameters/max_io_vqs"))
	if err != nil {
		n = 128 // the usual number
	}
	return n
}

func (m *VM) kvmStats(s *account.KVMStats) (err error) {
	for _, v := range m.vcpus {
		s.UserExits = append(s.UserExits, v.runs.Load())
	}
	stats, err := m.vm.StatsFD()
	if err != nil {
		return err
	}
	defer stats.Close()
	if s.VM, err = stats.Read(); err != nil {
		return err
	}
	for _, v := range m.vcpus {
		if v.stats == nil {
			continue
		}
		values, err := v.stats.Read()
		if err != nil {
			return err
		}
		s.VCPUs = append(s.VCPUs, values)
	}
	return nil
}
