package proof

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"minivmm/internal/testbed/testenv"
	"minivmm/vhost"
)

// benchMode is the mode in which minivmm asks for workers on this kernel.
func benchMode(b *testing.B) mode {
	needWorkers(b)
	all := theseModes(b)
	return all[len(all)-1]
}

// workersRan returns the CPU time of all workers of the owner that are threads.
func (p *process) workersRan() (sum time.Duration) {
	for _, dir := range tasksIn(fmt.Sprintf("/proc/%d/task", p.cmd.Process.Pid)) {
		if strings.HasPrefix(comm(dir), "vhost-") {
			sum += ran(read(p.t, dir+"/schedstat"))
		}
	}
	return sum
}

// measure calls do until b.N is reached; each call does a part of b.N and returns its size. measure
// reports the workers' CPU time in addition to the rate.
func measure(b *testing.B, p *process, do func() int) {
	before := p.workersRan()
	b.ResetTimer()
	done := 0
	for done < b.N {
		done += do()
	}
	b.StopTimer()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(done), "ns/op")
	b.ReportMetric(float64((p.workersRan()-before).Nanoseconds())/float64(done), "worker-ns/op")
	b.ReportMetric(float64(done)/b.Elapsed().Seconds(), "per-s")
}

// BenchmarkDisk writes 4 KiB at a time to a file in memory, with the same number of requests in
// flight on each request ring. The rings share one worker or have one each.
func BenchmarkDisk(b *testing.B) {
	m := benchMode(b)
	for _, rings := range []int{1, 2, 4} {
		for _, own := range []bool{false, true} {
			if own && (rings == 1 || m == oldKernel) {
				continue // the same as one worker: VHOST_NEW_WORKER creates only threads
			}
			for _, depth := range []int{1, diskBatch} {
				name := fmt.Sprintf("rings=%d/workers=%s/depth=%d", rings, map[bool]string{false: "shared", true: "per-ring"}[own], depth)
				b.Run(name, func(b *testing.B) { benchDisk(b, m, rings, own, depth) })
			}
		}
	}
}

func benchDisk(b *testing.B, m mode, rings int, own bool, depth int) {
	disks := []*disk{newDisk(b, m, diskOptions{})}
	guests := []*guest{disks[0].guest}
	begin := disks[0].start()
	begin.Rings = scsiRequest + rings
	begin.Active[0].OwnWorker = own
	for i := 1; i < rings; i++ {
		d := *disks[0]
		d.guest, d.next = guests[0].beside(scsiRequest+i), i*diskBytes/blockSize/rings
		disks, guests = append(disks, &d), append(guests, d.guest)
		begin.Active = append(begin.Active, active{Ring: scsiRequest + i, Num: scsiNum, Guest: i, OwnWorker: own})
	}
	p := startOwner(b, m, 0, guests...)
	p.own(vhost.ScsiPath)
	p.do(request{Start: begin})
	disks[0].ready()
	const sizeBytes = 4 << 10
	measure(b, p, func() int {
		for _, d := range disks {
			d.submit(depth, sizeBytes)
		}
		for _, d := range disks {
			if !d.answered(depth) {
				b.Fatal("a write failed")
			}
		}
		return depth * rings
	})
}

// BenchmarkNet sends small frames through one or two queue pairs, each with a vhost device, a
// worker and a tap of its own: many frames at a time, and one at a time.
func BenchmarkNet(b *testing.B) {
	m := benchMode(b)
	for _, pairs := range []int{1, 2} {
		for _, busyPoll := range []uint32{0, 50} {
			for _, depth := range []int{1, 256} {
				name := fmt.Sprintf("pairs=%d/busy_poll=%d/depth=%d", pairs, busyPoll, depth)
				b.Run(name, func(b *testing.B) { benchNet(b, m, pairs, busyPoll, depth) })
			}
		}
	}
}

func benchNet(b *testing.B, m mode, pairs int, busyPoll uint32, depth int) {
	const netRings, num = 2, 1 << 10
	var senders []*sender
	var guests []*guest
	for i := range pairs {
		g := newGuest(b, netTX, num)
		if i > 0 {
			g = guests[0].beside(i*netRings + netTX)
		}
		guests = append(guests, g)
		senders = append(senders, newSender(g))
	}
	p := startOwner(b, m, 0, guests...)
	for i := range pairs {
		p.own(vhost.NetPath)
		p.do(request{Start: &start{Device: i, First: i * netRings, Rings: netRings, Active: []active{{Ring: netTX, Num: num, Guest: i}}, BusyPoll: busyPoll}})
	}
	measure(b, p, func() int {
		for _, s := range senders {
			s.send(depth)
		}
		for _, s := range senders {
			if !s.served(testenv.Patience) {
				b.Fatal("the worker did not send")
			}
		}
		return depth * pairs
	})
}
