package account

// machines are the recorded machines, with the figures in their files.
var machines = []struct {
	file                 string
	maker                int // the thread that created the VM
	known                []Thread
	want                 []Thread // without minivmm's own
	own                  int
	resident, pageTables uint64
}{
	{
		file:  "6.12.txt", // workers are threads of the process
		maker: 151,
		known: []Thread{
			{TID: 180, Kind: VCPU, Role: "vcpu 0"},
			{TID: 170, Kind: Worker, Role: "net0", Queues: "receive, transmit"},
			{TID: 182, Kind: Worker, Role: "scsi0", Queues: "control, event, requests"},
		},
		want: []Thread{
			{TID: 180, Comm: "minivmm", Kind: VCPU, Role: "vcpu 0", State: "S", Usage: Usage{CPU: 18029961306, User: 12310e6, System: 5700e6, Voluntary: 415, Preempted: 754}, Wait: 1284418396, Guest: 8740e6, LastCPU: 1, CPUs: "0-1", Policy: "other", Cgroup: "/"},
			{TID: 170, Comm: "vhost-159", Kind: Worker, Role: "net0", Queues: "receive, transmit", State: "S", Usage: Usage{CPU: 26952861, System: 20e6, Voluntary: 13, Preempted: 4}, Wait: 41384315, CPUs: "0-1", Policy: "other", Cgroup: "/"},
			{TID: 182, Comm: "vhost-155", Kind: Worker, Role: "scsi0", Queues: "control, event, requests", State: "S", Usage: Usage{CPU: 112420290, System: 110e6, Voluntary: 64, Preempted: 71}, Wait: 106851012, CPUs: "0-1", Policy: "other", Cgroup: "/"},
			{TID: 188, Comm: "kvm-nx-lpage-re", Kind: KVM, Role: "kvm", State: "S", Usage: Usage{CPU: 133940, Voluntary: 1}, Wait: 11733969, CPUs: "0-1", Policy: "other", Cgroup: "/"},
		},
		own: 8, resident: 94504 << 10, pageTables: 336 << 10,
	},
	{
		file:  "6.1.txt", // workers are kernel threads, and so is KVM's
		maker: 104,
		known: []Thread{
			{TID: 139, Kind: VCPU, Role: "vcpu 0"},
			{TID: 124, Kthread: true, Kind: Worker, Role: "net0", Queues: "receive, transmit"},
			{TID: 137, Kthread: true, Kind: Worker, Role: "scsi0", Queues: "control, event, requests"},
		},
		want: []Thread{
			{TID: 139, Comm: "minivmm", Kind: VCPU, Role: "vcpu 0", State: "S", Usage: Usage{CPU: 10644153199, User: 8780e6, System: 1850e6, Voluntary: 194, Preempted: 517}, Wait: 760536626, Guest: 7090e6, CPUs: "0-1", Policy: "other", Cgroup: "/"},
			{TID: 124, Kthread: true, Comm: "vhost-104", Kind: Worker, Role: "net0", Queues: "receive, transmit", State: "S", Usage: Usage{CPU: 8902363, Voluntary: 12}, Wait: 6001420, CPUs: "0-1", Policy: "other", Cgroup: "/"},
			{TID: 137, Kthread: true, Comm: "vhost-109", Kind: Worker, Role: "scsi0", Queues: "control, event, requests", State: "S", Usage: Usage{CPU: 46087846, System: 40e6, Voluntary: 113, Preempted: 2}, Wait: 11314311, CPUs: "0-1", Policy: "other", Cgroup: "/"},
			{TID: 121, Kthread: true, Comm: "kvm-nx-lpage-recovery-104", Kind: KVM, Role: "kvm", State: "S", Usage: Usage{CPU: 9882842, Voluntary: 4}, Wait: 26607775, LastCPU: 1, CPUs: "0-1", Policy: "other", Cgroup: "/"},
		},
		own: 9, resident: 98980 << 10, pageTables: 340 << 10,
	},
}
