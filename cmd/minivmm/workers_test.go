package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"minivmm/vmm/account"
	"minivmm/vmm/control"
)

func count(n uint64) *uint64 { return &n }

// costs returns the report of a machine after the given seconds: its vCPU has used half of the
// time, its worker a tenth.
func costs(seconds uint64) *account.Report {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := &account.Report{
		Machine: account.Machine{Name: "web", PID: 1234, VCPUs: 1, Memory: 512 << 20, Started: start},
		Time:    start.Add(time.Duration(seconds) * time.Second),
		Threads: []account.Thread{
			{TID: 1240, Kind: account.VCPU, Role: "vcpu 0", Usage: account.Usage{CPU: seconds * 5e8, User: seconds * 4e8, System: seconds * 1e8, Voluntary: 7, Preempted: 8}, Wait: 25e6, LastCPU: 1, CPUs: "0-3", Cgroup: "/vm"},
			{TID: 1241, Kind: account.Worker, Role: "net0", Queues: "receive, transmit", Kthread: true, Usage: account.Usage{CPU: seconds * 1e8, System: seconds * 1e8}, CPUs: "2"},
			{TID: 1242, Kind: account.Worker, Role: "scsi0", State: "gone"},
			{TID: 1234, Kind: account.Minivmm, Role: "minivmm", Usage: account.Usage{CPU: 2e9, User: 1e9, System: 1e9}, CPUs: "0-3", Cgroup: "/vm"},
			{TID: 1235, Kind: account.Minivmm, Role: "minivmm", Usage: account.Usage{CPU: 1e9, User: 5e8, System: 5e8}, CPUs: "0-3", Cgroup: "/vm"},
		},
		Cgroup: &account.Cgroup{Path: "/vm", CPU: 9e9, Memory: 100 << 20, Tasks: 6},
		Memory: account.Memory{Resident: 99 << 20, PageTables: 1 << 19, NotCharged: []account.Estimate{{Device: "net0", Bytes: 118 << 10}}},
		Queues: []account.Queue{{Device: "net0", Size: 256, Live: true, Fill: 250, Kicks: count(9)}, {Device: "net0", Index: 1, Size: 256}, {Device: "rng0", Size: 64, Live: true, Fill: 1, Interrupts: count(12)}},
		Disks:  []account.Disk{{ID: "disk0", Commands: 5, ReadMiB: 1, WriteMiB: 2}},
		Nets:   []account.Net{{ID: "net1", Connections: 3, Flows: 4, Segments: 500, Retransmits: 6}},
		KVM:    account.KVMStats{VCPUs: []map[string]uint64{{"exits": 1000, "mmio_exits": 30, "halt_exits": 4}}, UserExits: []uint64{33}},

		Missing: []string{"x: no such file"},
	}
	r.Roles = account.Roles(r.Threads, account.Usage{CPU: seconds*5e8 + 4e9})
	return r
}

const wantTable = `
web: process 1234, up 10s, vcpus 1, memory 512M

ROLE     THREAD         CPU s   USER s  SYSTEM s  WAIT s  VOLUNTARY  PREEMPTED  ON  CPUS  CGROUP  SERVES
vcpu 0   1240           5.000   4.000   1.000     0.025   7          8          1   0-3   /vm
net0     1241 (kernel)  1.000   0.000   1.000     0.000   0          0          0   2     -       receive, transmit
scsi0    1242           gone
minivmm  2 threads      3.000   1.500   1.500     0.000   0          0
ended    -              1.000   0.000   0.000     0.000   0          0
all      5 threads      10.000

cgroup /vm: CPU 9.000 s, memory 100.0 MiB, tasks 6, including other processes in it
memory: 99.0 MiB resident, 0.5 MiB page tables; not charged: about 0.1 MiB for net0

QUEUE   SIZE  FILL  KICKS  INTERRUPTS
net0 0  256   250   9      -
rng0 0  64    1     -      12

DISK   COMMANDS  READ MiB  WRITTEN MiB
disk0  5         1         2

NETWORK  CONNECTIONS  FLOWS  SEGMENTS  RETRANSMITS
net1     3            4      500       6

VCPU  EXITS  MMIO EXITS  IO EXITS  HALT EXITS  IRQ INJECTIONS  TO MINIVMM
0     1000   30          0         4           0               33

missing: x: no such file
`

func TestWorkersTable(t *testing.T) {
	var b strings.Builder
	if err := workersTable(&b, costs(10), nil, false); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != wantTable[1:] {
		t.Errorf("got:\n%s", got)
	}
	b.Reset()
	if err := workersTable(&b, costs(10), costs(8), true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"vcpu 0   1240           50.0   5.000", "net0     1241 (kernel)  10.0   1.000", "minivmm  1235           0.0    1.000   0.500", "all      5 threads      60.0   10.000"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &b)
		}
	}
}

func TestListTable(t *testing.T) {
	m := costs(0).Machine
	var b strings.Builder
	err := listTable(&b, []control.Found{{Name: "db", Err: errors.New("does not answer")}, {Name: "web", About: m}}, m.Started.Add(90*time.Second))
	want := "NAME  PROCESS  VCPUS  MEMORY  UP\ndb    -        -      -       does not answer\nweb   1234     1      512M    1m30s\n"
	if err != nil || b.String() != want {
		t.Errorf("%v\n%s", err, &b)
	}
}

// TestWatchEndsWithTheMachine watches a machine that answers three times and is then gone; at the
// third answer another machine has its name.
func TestWatchEndsWithTheMachine(t *testing.T) {
	reports := []*account.Report{costs(1), costs(2), costs(3)}
	reports[2].Machine.PID++
	ask := func(string) (*account.Report, error) {
		if len(reports) == 0 {
			return nil, &control.NotRunningError{}
		}
		r := reports[0]
		reports = reports[1:]
		return r, nil
	}
	tick := make(chan time.Time, 3)
	for range cap(tick) {
		tick <- time.Time{}
	}
	var shown []time.Duration
	err := watchWorkers(context.Background(), ask, "web", tick, func(r, before *account.Report) error {
		shown = append(shown, r.Time.Sub(before.Time))
		return nil
	})
	if err != nil || len(shown) != 2 || shown[0] != time.Second || shown[1] != 0 {
		t.Errorf("%v, shown %v", err, shown)
	}
	if err := watchWorkers(context.Background(), ask, "web", tick, nil); err == nil {
		t.Error("watching a machine that never existed returned no error")
	}
}
